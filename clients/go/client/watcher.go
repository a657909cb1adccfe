package client

import (
	"context"
	"errors"
	"io"
	"iter"
	"log/slog"
	"slices"
	"sync"
	"time"

	webhookv1 "github.com/webhook-grpc/webhook-grpc/generated/go/webhook/v1"
)

// A Watcher iterates over deliveries as they stood after each change, oldest change first. It goes on after every
// interruption, without a gap.
type Watcher struct {
	client  *Client
	options WatchOptions
	saving  saving
	looping sync.Mutex // one loop at a time

	mu     sync.Mutex
	cursor []byte // written by the loop, read by anybody
}

// Watch returns a watcher. It connects in [Watcher.All].
func (c *Client) Watch(options WatchOptions) *Watcher {
	return &Watcher{client: c, options: options, saving: saving{store: options.Cursors}}
}

// Cursor returns what to give to the next watch, so that it goes on here; empty before the first message. It moves when
// the body of the loop has returned: what was not finished is delivered again by a later watch.
func (w *Watcher) Cursor() []byte {
	w.mu.Lock()
	defer w.mu.Unlock()
	return slices.Clone(w.cursor)
}

func (w *Watcher) moved(cursor []byte) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.cursor = cursor
}

// All returns the deliveries. Interruptions do not end the loop; an error does, and is its last: that of ctx, of a
// request that is refused, of a gap ([ErrCursorExpired]) or of the cursor store. A later loop goes on after
// [Watcher.Cursor].
func (w *Watcher) All(ctx context.Context) iter.Seq2[*webhookv1.Delivery, error] {
	return func(yield func(*webhookv1.Delivery, error) bool) {
		if !w.looping.TryLock() {
			yield(nil, errors.New("another loop of this watcher has not ended"))
			return
		}
		defer w.looping.Unlock()
		loop := &watching{Watcher: w, yield: yield}
		if err := loop.run(ctx); err != nil && !loop.left {
			yield(nil, err)
		}
	}
}

// watching is one loop of a watcher.
type watching struct {
	*Watcher
	*following
	yield func(*webhookv1.Delivery, error) bool
	left  bool // the body ended the loop
}

func (l *watching) run(ctx context.Context) (err error) {
	if err := l.begin(ctx); err != nil {
		return err
	}
	defer func() { // also where the body panics
		if unsaved := l.saveLast(ctx); err == nil || unsaved != nil {
			err = errors.Join(err, unsaved)
		}
	}()
	bound, cancel := l.client.bound(ctx)
	defer cancel()
	for {
		token, err := l.client.settings.token.now()
		if err == nil {
			err = l.stream(bound)
		}
		if err == nil {
			return nil
		}
		if bound.Err() != nil {
			return l.client.ended(ctx, nil)
		}
		wait, err := l.again(err, token)
		if err != nil {
			return err
		}
		if !sleep(bound, wait) {
			return l.client.ended(ctx, nil)
		}
	}
}

// begin finds out where to start.
func (l *watching) begin(ctx context.Context) error {
	options := l.options
	if cursor := l.Cursor(); len(cursor) > 0 {
		options.Cursor, options.StartTime, options.Snapshot = cursor, time.Time{}, false
	}
	following, err := newFollowing(options, time.Now())
	if err != nil {
		return err
	}
	l.following = following
	if len(l.Cursor()) == 0 {
		cursor, err := l.saving.load(ctx)
		if err != nil {
			return err
		}
		if len(cursor) > 0 {
			l.following.cursor = cursor
		}
	}
	l.moved(l.following.cursor)
	return nil
}

// again returns how long to wait before the next stream, or the error if that would not help.
func (l *watching) again(err error, token string) (time.Duration, error) {
	if errors.Is(err, io.EOF) {
		return l.ended(0, l.client.jitter()), nil
	}
	var unauthorized *UnauthorizedError
	if errors.As(err, &unauthorized) {
		if now, readable := l.client.settings.token.now(); readable == nil && now != token {
			return l.ended(0, l.client.jitter()), nil // there is a new token
		}
	}
	return l.failed(err, l.client.jitter())
}

// stream passes on what one stream brings. It returns nil when the loop is to end, and else why the stream ended.
func (l *watching) stream(ctx context.Context) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	stream, err := l.client.service.WatchDeliveries(ctx, l.request())
	if err != nil {
		return err
	}
	for {
		message, err := stream.Recv()
		if err != nil {
			return err
		}
		l.received(message, time.Now())
		for _, delivery := range message.GetDeliveries() {
			if ctx.Err() != nil {
				return ctx.Err()
			}
			if l.left = !l.yield(delivery, nil); l.left {
				return nil
			}
		}
		l.finished(message)
		l.moved(l.following.cursor)
		if err := l.saving.save(ctx, l.following.cursor, time.Now(), false); err != nil {
			return err
		}
		if l.isIdle(time.Now()) {
			return nil
		}
	}
}

// saveLast saves the cursor at the end of the loop, whatever has ended it. A body that has left hears of no error, so the
// log does.
func (l *watching) saveLast(ctx context.Context) error {
	err := l.saving.save(context.WithoutCancel(ctx), l.following.cursor, time.Now(), true)
	if err != nil && l.left {
		slog.ErrorContext(ctx, "webhook-grpc client", "error", err)
		return nil
	}
	return err
}
