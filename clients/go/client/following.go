package client

import (
	"errors"
	"slices"
	"strings"
	"time"

	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/durationpb"
	"google.golang.org/protobuf/types/known/timestamppb"

	webhookv1 "github.com/webhook-grpc/webhook-grpc/generated/go/webhook/v1"
)

const heartbeatMax = 15 * time.Second

// A GapPolicy is what a watcher does when the log does not reach back to its cursor.
type GapPolicy int

const (
	// ReportGap ends the loop with a CursorExpiredError.
	ReportGap GapPolicy = iota
	// Snapshot goes on with what is pending, and then each change.
	Snapshot
)

// WatchOptions say which deliveries to watch, where to start, and when to end. All zero: all deliveries of the token's
// customer from now on, for ever.
type WatchOptions struct {
	CustomerID int64
	WebhookIDs []int64
	EventTypes []string // job.completed, job.* or *
	Statuses   []webhookv1.DeliveryStatus
	EventID    string
	ReplayID   int64

	// One start at most. Cursor: after the message that had it. StartTime: with the first change since. Snapshot: with
	// what is pending, and then each change.
	Cursor    []byte
	StartTime time.Time
	Snapshot  bool

	// Cursors holds the cursor from run to run. A start beside it is that of the first run.
	Cursors CursorStore
	// UntilIdle ends the loop after so long without a delivery while connected, at least a second. 0: never.
	UntilIdle time.Duration
	OnGap     GapPolicy
}

func (o WatchOptions) request() (*webhookv1.WatchDeliveriesRequest, error) {
	heartbeat := heartbeatMax
	if o.UntilIdle > 0 {
		heartbeat = min(heartbeatMax, max(time.Second, o.UntilIdle/2)).Truncate(time.Second)
	}
	request := &webhookv1.WatchDeliveriesRequest{
		CustomerId: o.CustomerID, WebhookIds: o.WebhookIDs, EventTypes: o.EventTypes, Statuses: o.Statuses,
		EventId: o.EventID, ReplayId: o.ReplayID, HeartbeatInterval: durationpb.New(heartbeat),
	}
	if starts := o.starts(); len(starts) > 1 {
		return nil, errors.New("one start, not " + strings.Join(starts, " and "))
	}
	if !o.StartTime.IsZero() {
		request.Start = &webhookv1.WatchDeliveriesRequest_StartTime{StartTime: timestamppb.New(o.StartTime)}
	} else if o.Snapshot {
		request.Start = startWithSnapshot
	}
	return request, nil
}

func (o WatchOptions) starts() []string {
	given := []string{}
	if len(o.Cursor) > 0 {
		given = append(given, "Cursor")
	}
	if !o.StartTime.IsZero() {
		given = append(given, "StartTime")
	}
	if o.Snapshot {
		given = append(given, "Snapshot")
	}
	return given
}

var startWithSnapshot = &webhookv1.WatchDeliveriesRequest_Snapshot{Snapshot: true}

// following is the way of one watcher through the log.
type following struct {
	first       *webhookv1.WatchDeliveriesRequest
	untilIdle   time.Duration
	onGap       GapPolicy
	failures    int
	deliveredAt time.Time
	cursor      []byte // everything up to the message that had it is finished
}

func newFollowing(options WatchOptions, now time.Time) (*following, error) {
	first, err := options.request()
	if err != nil {
		return nil, err
	}
	return &following{
		first: first, untilIdle: options.UntilIdle, onGap: options.OnGap, deliveredAt: now,
		cursor: slices.Clone(options.Cursor),
	}, nil
}

// request returns the request that goes on after the cursor, or begins where the watch was to begin.
func (f *following) request() *webhookv1.WatchDeliveriesRequest {
	request := proto.CloneOf(f.first)
	if len(f.cursor) > 0 {
		request.Start = &webhookv1.WatchDeliveriesRequest_Cursor{Cursor: f.cursor}
	}
	return request
}

// received notes that a message came.
func (f *following) received(message *webhookv1.WatchDeliveriesResponse, now time.Time) {
	f.failures = 0
	if len(message.GetDeliveries()) > 0 {
		f.deliveredAt = now
	}
}

// finished moves the cursor behind a message whose deliveries are all finished. A snapshot has none until its end.
func (f *following) finished(message *webhookv1.WatchDeliveriesResponse) {
	if len(message.GetCursor()) > 0 {
		f.cursor = message.GetCursor()
	}
}

// isIdle returns whether there was no delivery for as long as the caller wants to wait.
func (f *following) isIdle(now time.Time) bool {
	return f.untilIdle > 0 && now.Sub(f.deliveredAt) >= f.untilIdle
}

// failed returns how long to wait before watching again, or the error if that would not help.
func (f *following) failed(err error, jitter float64) (time.Duration, error) {
	asked, again := retryAfter(err)
	switch {
	case errors.Is(err, ErrCursorExpired) && f.onGap == Snapshot:
		f.cursor = nil
		f.first.Start = startWithSnapshot
	case !again:
		return 0, err
	}
	return f.ended(asked, jitter), nil
}

// ended returns how long to wait before watching again after the stream ended.
func (f *following) ended(asked time.Duration, jitter float64) time.Duration {
	f.failures++
	return pause(f.failures, asked, jitter)
}
