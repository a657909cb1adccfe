package client

import (
	"context"
	"fmt"
	"math/rand/v2"

	"google.golang.org/grpc"

	webhookv1 "github.com/webhook-grpc/webhook-grpc/generated/go/webhook/v1"
)

// A Client publishes, watches and calls the service over one connection. Many goroutines may use it.
type Client struct {
	settings   *settings
	connection *grpc.ClientConn
	service    webhookv1.WebhookServiceClient
	closing    context.Context // ends when the client is closed
	end        context.CancelFunc
	jitter     func() float64
}

// New returns a client of the service at host:port, which connects when it is first used. It reads the files of TLS; an
// error is about those or about options that contradict one another.
func New(address string, options ...Option) (*Client, error) {
	settings, err := settingsOf(options)
	if err != nil {
		return nil, err
	}
	secure, err := settings.credentials(address)
	if err != nil {
		return nil, err
	}
	c := &Client{settings: settings, jitter: rand.Float64}
	dial := append(c.dialOptions(), grpc.WithTransportCredentials(secure))
	c.connection, err = grpc.NewClient(address, append(dial, settings.dialOptions...)...)
	if err != nil {
		return nil, err
	}
	c.service = webhookv1.NewWebhookServiceClient(c.connection)
	c.closing, c.end = context.WithCancel(context.Background())
	return c, nil
}

// Service returns the generated client over the same connection, for methods that have none here. Its calls carry the
// token and return the errors of this package. Reads, and requests with a request id, are repeated as [Patience] allows.
func (c *Client) Service() webhookv1.WebhookServiceClient { return c.service }

// Publish publishes one event, and returns when it is on disk. It is tried again while the service is away or overloaded;
// a try whose answer was lost publishes nothing twice.
func (c *Client) Publish(ctx context.Context, event Event) (Published, error) {
	request, err := event.request()
	if err != nil {
		return Published{}, err
	}
	response, err := c.service.PublishEvent(ctx, request)
	if err != nil {
		return Published{}, err
	}
	return publishedOf(response), nil
}

// Close closes the connection. Close publishers first: what waits in them fails with [ErrClosed].
func (c *Client) Close() error {
	c.end()
	return c.connection.Close()
}

// bound returns a context that ends with the caller's and when the client is closed.
func (c *Client) bound(ctx context.Context) (context.Context, context.CancelFunc) {
	bound, cancel := context.WithCancel(ctx)
	stop := context.AfterFunc(c.closing, cancel)
	return bound, func() {
		stop()
		cancel()
	}
}

// ended returns why a bound context has ended, and what the last try met.
func (c *Client) ended(ctx context.Context, last error) error {
	cause := ctx.Err()
	if cause == nil {
		cause = ErrClosed
	}
	if last == nil {
		return cause
	}
	return fmt.Errorf("%w; the last try: %w", cause, last)
}
