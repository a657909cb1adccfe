package client

import (
	"errors"
	"fmt"
	"slices"
	"testing"
	"time"

	"google.golang.org/grpc/codes"

	webhookv1 "github.com/webhook-grpc/webhook-grpc/generated/go/webhook/v1"
)

var (
	start = time.Unix(1_700_000_000, 0)
	away  = typed(WebhookError{Code: codes.Unavailable, Message: "away"})
)

func after(d time.Duration) time.Time { return start.Add(d) }

func filled(t *testing.T, options PublisherOptions, count, size int) (*queue, []*Result) {
	t.Helper()
	q := &queue{options: options.withDefaults()}
	results := make([]*Result, count)
	for i := range results {
		results[i] = &Result{done: make(chan struct{})}
		q.add(&webhookv1.PublishEventRequest{RequestId: fmt.Sprint(i)}, size, results[i], start)
	}
	return q, results
}

func published(count int) []*webhookv1.BatchPublishResult {
	results := make([]*webhookv1.BatchPublishResult, count)
	for i := range results {
		results[i] = &webhookv1.BatchPublishResult{Result: &webhookv1.BatchPublishResult_Published{
			Published: &webhookv1.PublishEventResponse{EventId: fmt.Sprintf("evt_%d", i)},
		}}
	}
	return results
}

func refusal(code codes.Code, reason string) *webhookv1.BatchPublishResult {
	return &webhookv1.BatchPublishResult{Result: &webhookv1.BatchPublishResult_Error{Error: &webhookv1.BatchPublishError{
		Code: int32(code), Reason: reason, Message: "no",
		FieldViolations: []*webhookv1.FieldViolation{{Field: "event.event_type", Description: "is unknown"}},
	}}}
}

func ids(batch []*waiting) string {
	text := ""
	for _, event := range batch {
		text += event.request.GetRequestId() + " "
	}
	return text
}

func isSettled(result *Result) bool {
	select {
	case <-result.Done():
		return true
	default:
		return false
	}
}

func equal[T comparable](t *testing.T, got, want T) {
	t.Helper()
	if got != want {
		t.Fatalf("got %v, want %v", got, want)
	}
}

func waits(t *testing.T, q *queue, now time.Time, hurry bool, want time.Duration) {
	t.Helper()
	wait, ok := q.wait(now, hurry)
	equal(t, ok, true)
	equal(t, wait, want)
}

func TestABatchIsSentWhenItIsFullOrHasLingered(t *testing.T) {
	q, _ := filled(t, PublisherOptions{Linger: time.Second}, 1, 100)
	waits(t, q, start, false, time.Second)
	waits(t, q, start, true, 0)
	waits(t, q, after(time.Second), false, 0)

	q, _ = filled(t, PublisherOptions{Linger: time.Second}, batchEventsMax+1, 100)
	waits(t, q, start, false, 0)
	equal(t, len(q.take(start)), batchEventsMax)
	equal(t, ids(q.take(start)), "500 ")
	_, ok := q.wait(start, true)
	equal(t, ok, false)
}

func TestABatchHasNoMoreBytesThanACallMayHaveButAlwaysOneEvent(t *testing.T) {
	q, _ := filled(t, PublisherOptions{}, 3, batchBytesMax/2)
	for _, count := range []int{1, 1, 1, 0} {
		equal(t, len(q.take(start)), count)
	}
}

func TestWhatWaitsHasBoundsAndOneEventAlwaysFindsRoom(t *testing.T) {
	options := PublisherOptions{MaxWaiting: 2, MaxWaitingBytes: 1000}
	q, _ := filled(t, options, 0, 100)
	equal(t, q.hasRoom(5000), true)
	q, _ = filled(t, options, 1, 100)
	equal(t, q.hasRoom(900), true)
	equal(t, q.hasRoom(901), false)
	q, _ = filled(t, options, 2, 100)
	equal(t, q.hasRoom(1), false)
}

func TestEachEventIsJudgedByItself(t *testing.T) {
	q, results := filled(t, PublisherOptions{}, 2, 100)
	answer := append(published(1), refusal(codes.FailedPrecondition, "EVENT_TYPE_UNKNOWN"))
	if err := q.answered(q.take(start), answer, start, 0); err != nil {
		t.Fatal(err)
	}
	equal(t, results[0].published.EventID, "evt_0")
	var refused *RefusedError
	equal(t, errors.As(results[1].err, &refused), true)
	equal(t, errors.Is(results[1].err, ErrFailedPrecondition), true)
	equal(t, refused.Reason, "EVENT_TYPE_UNKNOWN")
	equal(t, refused.Violations[0], Violation{"event.event_type", "is unknown"})
	equal(t, q.count+q.size, 0)
}

func TestAfterAFailedCallTheSameEventsArePublishedAgainInTheirOrder(t *testing.T) {
	q, results := filled(t, PublisherOptions{}, 3, 100)
	q.failed(q.take(start), away, after(time.Second), 0)
	q.add(&webhookv1.PublishEventRequest{RequestId: "new"}, 1, &Result{done: make(chan struct{})}, after(time.Second))
	waits(t, q, after(time.Second), true, pauseMin) // the new event waits with the others

	again := q.take(after(time.Second + pauseMin))

	equal(t, ids(again), "0 1 2 new ")
	if err := q.answered(again, published(4), start, 0); err != nil {
		t.Fatal(err)
	}
	equal(t, slices.ContainsFunc(results, isSettled), true)
	equal(t, q.count, 0)
}

func TestAnEventThatALimitRefusesDoesNotHoldUpOthers(t *testing.T) {
	q, results := filled(t, PublisherOptions{}, 2, 100)
	answer := append([]*webhookv1.BatchPublishResult{refusal(codes.ResourceExhausted, "RATE_LIMITED")}, published(1)...)
	if err := q.answered(q.take(start), answer, start, 0); err != nil {
		t.Fatal(err)
	}
	equal(t, isSettled(results[0]), false)
	equal(t, isSettled(results[1]), true)
	q.add(&webhookv1.PublishEventRequest{RequestId: "new"}, 1, &Result{done: make(chan struct{})}, start)
	equal(t, ids(q.take(start)), "new ")
	equal(t, ids(q.take(after(pauseMin))), "0 ")
}

func TestPatienceEndsAndOtherErrorsAreResultsAtOnce(t *testing.T) {
	q, results := filled(t, PublisherOptions{Patience: 5 * time.Second}, 1, 100)
	q.failed(q.take(start), away, after(4*time.Second), 0)
	equal(t, isSettled(results[0]), false)
	q.failed(q.take(after(5*time.Second)), away, after(5*time.Second), 0)
	equal(t, results[0].err, away)

	q, results = filled(t, PublisherOptions{}, 1, 100)
	broken := errors.New("a bug")
	q.failed(q.take(start), broken, start, 0)
	equal(t, results[0].err, broken)
}

func TestAnAnswerWithResultsForOtherEventsSettlesNone(t *testing.T) {
	q, results := filled(t, PublisherOptions{}, 2, 100)
	if err := q.answered(q.take(start), published(1), start, 0); err == nil {
		t.Fatal("there is no error")
	}
	equal(t, isSettled(results[0]), false)
}
