package client

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/backoff"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/keepalive"
	"google.golang.org/grpc/metadata"

	webhookv1 "github.com/webhook-grpc/webhook-grpc/generated/go/webhook/v1"
)

// Spreads calls over the addresses of a name. The client repeats calls itself.
const serviceConfig = `{"loadBalancingConfig":[{"round_robin":{}}]}`

const messageBytesMax = 16 << 20

// dialOptions returns options that suit the service: back within a fraction of a second of its restart (gRPC's own pause
// begins with a second), and a connection that has died is noticed.
func (c *Client) dialOptions() []grpc.DialOption {
	return []grpc.DialOption{
		grpc.WithUserAgent("webhook-grpc-client-go/0.1.0"),
		grpc.WithConnectParams(grpc.ConnectParams{
			Backoff:           backoff.Config{BaseDelay: pauseMin, Multiplier: 2, Jitter: 0.2, MaxDelay: pauseMax},
			MinConnectTimeout: 5 * time.Second,
		}),
		grpc.WithKeepaliveParams(keepalive.ClientParameters{Time: 30 * time.Second, Timeout: 10 * time.Second}),
		grpc.WithDefaultCallOptions(grpc.MaxCallRecvMsgSize(messageBytesMax)),
		grpc.WithDefaultServiceConfig(serviceConfig),
		grpc.WithDisableServiceConfig(), // no lookup of TXT records before the first call
		grpc.WithDisableRetry(),
		grpc.WithChainUnaryInterceptor(c.repeated),
		grpc.WithChainStreamInterceptor(c.streamed),
	}
}

// token is the token of each call: a text, or a file that is read each time.
type token struct {
	text string
	file string
}

// now returns the token as it is now. A file that can't be read, or whose text can be no token, is an UnauthorizedError.
func (t token) now() (string, error) {
	text := t.text
	if t.file != "" {
		read, err := os.ReadFile(t.file)
		if err != nil {
			return "", typed(WebhookError{Code: codes.Unauthenticated, Message: fmt.Sprintf("the token file: %v", err)})
		}
		text = strings.TrimSpace(string(read))
	}
	if strings.ContainsFunc(text, isNoneOfToken) { // gRPC's error would be Internal, and be tried again
		const message = "the token has line breaks, or characters beyond ASCII: no token has"
		return "", typed(WebhookError{Code: codes.Unauthenticated, Message: message})
	}
	return text, nil
}

func isNoneOfToken(character rune) bool { return character < ' ' || character > '~' }

func (t token) outgoing(ctx context.Context) (context.Context, error) {
	text, err := t.now()
	if err != nil || text == "" {
		return ctx, err
	}
	return metadata.AppendToOutgoingContext(ctx, "authorization", "Bearer "+text), nil
}

// repeated makes a call with one answer until it is judged, if it may be repeated, and types its error.
func (c *Client) repeated(
	ctx context.Context, method string, request, answer any, connection *grpc.ClientConn, invoke grpc.UnaryInvoker,
	options ...grpc.CallOption,
) error {
	bound, cancel := c.bound(ctx)
	defer cancel()
	tries := newTries(c.settings.patience, time.Now(), mayRepeat(method, request))
	for {
		err := c.try(bound, method, request, answer, connection, invoke, options)
		if err == nil {
			return nil
		}
		if bound.Err() != nil {
			return c.ended(ctx, err)
		}
		wait, err := tries.failed(err, time.Now(), c.jitter())
		if err != nil {
			return err
		}
		if !sleep(bound, wait) {
			return c.ended(ctx, tries.last)
		}
	}
}

func (c *Client) try(
	ctx context.Context, method string, request, answer any, connection *grpc.ClientConn, invoke grpc.UnaryInvoker,
	options []grpc.CallOption,
) error {
	ctx, err := c.settings.token.outgoing(ctx)
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, c.tryTimeout(method))
	defer cancel()
	return errorOf(invoke(ctx, method, request, answer, connection, options...))
}

func (c *Client) tryTimeout(method string) time.Duration {
	if method == webhookv1.WebhookService_BatchPublishEvents_FullMethodName {
		return batchTimeMax
	}
	return c.settings.patience.Try
}

// streamed begins a stream with the token of this moment, and types its errors.
func (c *Client) streamed(
	ctx context.Context, description *grpc.StreamDesc, connection *grpc.ClientConn, method string,
	begin grpc.Streamer, options ...grpc.CallOption,
) (grpc.ClientStream, error) {
	ctx, err := c.settings.token.outgoing(ctx)
	if err != nil {
		return nil, err
	}
	stream, err := begin(ctx, description, connection, method, options...)
	if err != nil {
		return nil, errorOf(err)
	}
	return typedStream{stream}, nil
}

type typedStream struct{ grpc.ClientStream }

func (s typedStream) RecvMsg(message any) error {
	err := s.ClientStream.RecvMsg(message)
	if errors.Is(err, io.EOF) {
		return err
	}
	return errorOf(err)
}

// sleep waits, and returns whether the context lasted so long. It is a back-off: no signal says that the service is back.
func sleep(ctx context.Context, wait time.Duration) bool {
	timer := time.NewTimer(wait)
	defer timer.Stop()
	select {
	case <-timer.C:
		return true
	case <-ctx.Done():
		return false
	}
}
