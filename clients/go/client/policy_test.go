package client

import (
	"context"
	"encoding/json"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	webhookv1 "github.com/webhook-grpc/webhook-grpc/generated/go/webhook/v1"
)

var gap = typed(WebhookError{
	Code: codes.OutOfRange, Reason: "CURSOR_EXPIRED", Metadata: map[string]string{"oldest_time": "2026-01-02T03:04:05Z"},
})

func TestPausesGrowToABoundAreShortenedByJitterAndHonourWhatWasAsked(t *testing.T) {
	for failures, want := range map[int]time.Duration{1: 100, 2: 200, 5: 1600, 6: 2000, 1000: 2000} {
		equal(t, pause(failures, 0, 0), want*time.Millisecond)
	}
	equal(t, pause(6, 0, 1), time.Second)
	equal(t, pause(1, 30*time.Second, 1), 30*time.Second)
}

func TestACallIsRepeatedOnlyIfThatIsSafeAndPatienceLasts(t *testing.T) {
	patience := Patience{Total: time.Second}
	_, err := newTries(patience, start, false).failed(away, start, 0)
	equal(t, err, away)
	again := newTries(patience, start, true)
	wait, err := again.failed(away, start, 0)
	equal(t, err, nil)
	equal(t, wait, pauseMin)
	_, err = again.failed(away, after(900*time.Millisecond), 0)
	equal(t, err, away)
	malformed := refused("event", "is wrong")
	_, err = newTries(patience, start, true).failed(malformed, start, 0)
	equal(t, err, malformed)
}

func TestReadsAndRequestsWithARequestIDMayBeRepeated(t *testing.T) {
	for method, want := range map[string]bool{
		webhookv1.WebhookService_GetWebhook_FullMethodName:     true,
		webhookv1.WebhookService_ListEvents_FullMethodName:     true,
		webhookv1.WebhookService_ExplainEvent_FullMethodName:   true,
		webhookv1.WebhookService_CancelDelivery_FullMethodName: false,
	} {
		equal(t, mayRepeat(method, nil), want)
	}
	publish := webhookv1.WebhookService_PublishEvent_FullMethodName
	equal(t, mayRepeat(publish, &webhookv1.PublishEventRequest{}), false)
	equal(t, mayRepeat(publish, &webhookv1.PublishEventRequest{RequestId: "order-1"}), true)
}

func message(cursor string, count int) *webhookv1.WatchDeliveriesResponse {
	return &webhookv1.WatchDeliveriesResponse{
		Cursor: []byte(cursor), Deliveries: make([]*webhookv1.Delivery, count),
	}
}

func follow(t *testing.T, options WatchOptions) *following {
	t.Helper()
	f, err := newFollowing(options, start)
	if err != nil {
		t.Fatal(err)
	}
	return f
}

func TestAWatchGoesOnAfterWhatIsFinishedAndNotAfterWhatHasCome(t *testing.T) {
	f := follow(t, WatchOptions{Snapshot: true, EventTypes: []string{"job.*"}})
	equal(t, f.request().GetSnapshot(), true)
	f.received(message("", 3), start)
	f.finished(message("", 3))
	equal(t, f.request().GetSnapshot(), true) // a snapshot that broke off is begun again
	f.received(message("one", 0), start)
	equal(t, f.request().GetSnapshot(), true)
	f.finished(message("one", 0))
	equal(t, string(f.request().GetCursor()), "one")
	equal(t, f.request().GetEventTypes()[0], "job.*")
}

func TestAGapIsAnErrorUnlessASnapshotIsWantedInstead(t *testing.T) {
	_, err := follow(t, WatchOptions{Cursor: []byte("old")}).failed(gap, 0)
	equal(t, errors.Is(err, ErrCursorExpired), true)
	var expired *CursorExpiredError
	equal(t, errors.As(err, &expired), true)
	equal(t, expired.OldestTime().Format(time.DateOnly), "2026-01-02")

	f := follow(t, WatchOptions{Cursor: []byte("old"), OnGap: Snapshot})
	_, err = f.failed(gap, 0)
	equal(t, err, nil)
	equal(t, f.request().GetSnapshot(), true)
}

func TestAWatchResumesAfterInterruptionsAndEndsWithErrorsThatStay(t *testing.T) {
	f := follow(t, WatchOptions{})
	for _, want := range []time.Duration{pauseMin, 2 * pauseMin} {
		wait, err := f.failed(away, 0)
		equal(t, err, nil)
		equal(t, wait, want)
	}
	f.received(message("one", 0), start)
	equal(t, f.ended(0, 0), pauseMin)
	_, err := f.failed(refused("cursor", "is wrong"), 0)
	equal(t, errors.Is(err, ErrInvalidArgument), true)
}

func TestSilenceEndsAWatchThatWantsIt(t *testing.T) {
	f := follow(t, WatchOptions{UntilIdle: 5 * time.Second})
	equal(t, f.request().GetHeartbeatInterval().GetSeconds(), 2)
	f.received(message("one", 1), after(2*time.Second))
	f.received(message("two", 0), after(7*time.Second-1))
	equal(t, f.isIdle(after(7*time.Second-1)), false)
	equal(t, f.isIdle(after(7*time.Second)), true)
	equal(t, follow(t, WatchOptions{}).isIdle(after(1e6*time.Hour)), false)
}

func TestAWatchHasOneStart(t *testing.T) {
	_, err := newFollowing(WatchOptions{Cursor: []byte("one"), Snapshot: true}, start)
	equal(t, err.Error(), "one start, not Cursor and Snapshot")
}

func TestACursorIsSavedOnceASecondAndReadAgain(t *testing.T) {
	ctx, folder := context.Background(), t.TempDir()
	path := filepath.Join(folder, "cursor")
	s := &saving{store: CursorFile(path)}
	kept := func() string {
		t.Helper()
		cursor, err := CursorFile(path).Load(ctx)
		equal(t, err, nil)
		return string(cursor)
	}
	for _, step := range []struct {
		cursor string
		at     time.Duration
		isLast bool
		want   string
	}{
		{"", 0, true, ""},
		{"one", 0, false, "one"},
		{"two", saveEvery / 2, false, "one"},
		{"two", saveEvery / 2, true, "two"},
		{"three", 2 * saveEvery, false, "three"},
	} {
		equal(t, s.save(ctx, []byte(step.cursor), after(step.at), step.isLast), nil)
		equal(t, kept(), step.want)
	}
	files, err := os.ReadDir(folder)
	equal(t, err, nil)
	equal(t, len(files), 1)
}

func TestACursorFileWithoutACursorIsRefused(t *testing.T) {
	path := filepath.Join(t.TempDir(), "cursor")
	for _, text := range []string{"", "\n", "not base64!"} {
		equal(t, os.WriteFile(path, []byte(text), 0o600), nil)
		_, err := CursorFile(path).Load(context.Background())
		equal(t, errors.Is(err, ErrCursorFileBroken), true)
	}
}

func TestAnEventKeepsItsBytesAndAlwaysHasARequestID(t *testing.T) {
	request, err := Event{Data: json.RawMessage(`{"n": 1.0}`), RequestID: "order-1"}.request()
	equal(t, err, nil)
	equal(t, request.GetEvent().GetDataJson(), `{"n": 1.0}`)
	equal(t, request.GetRequestId(), "order-1")
	first, _ := Event{}.request()
	second, _ := Event{}.request()
	equal(t, len(first.GetRequestId()) >= 26 && first.GetRequestId() != second.GetRequestId(), true)
}

func TestAnEventThatWouldHoldUpItsBatchIsRefusedBeforeItIsInOne(t *testing.T) {
	for field, event := range map[string]Event{
		"event.data_json":  {Data: json.RawMessage("\"\xff\"")},
		"event.event_type": {Type: "\xff"},
		"request_id":       {RequestID: "\xff"},
		"event.attributes": {Attributes: map[string]string{"key": "\xff"}},
		"event":            {Data: json.RawMessage(strings.Repeat("1", batchBytesMax))},
	} {
		_, err := event.request()
		var refused *RefusedError
		equal(t, errors.As(err, &refused), true)
		equal(t, refused.Violations[0].Field, field)
	}
}

func TestErrorsAreTypedByWhatACallerCanDo(t *testing.T) {
	for code, want := range map[codes.Code]any{
		codes.NotFound: new(*RefusedError), codes.PermissionDenied: new(*UnauthorizedError),
		codes.ResourceExhausted: new(*UnavailableError), codes.Internal: new(*UnavailableError),
	} {
		err := errorOf(status.Error(code, "why"))
		var problem *WebhookError
		equal(t, errors.As(err, want) && errors.As(err, &problem), true)
		equal(t, status.Code(err), code)
	}
	quota := typed(WebhookError{Code: codes.ResourceExhausted, Reason: "WEBHOOK_QUOTA"})
	equal(t, errors.Is(quota, ErrQuotaExceeded), true)
	slow := typed(WebhookError{Code: codes.Aborted, Reason: "WATCHER_TOO_SLOW"})
	_, again := retryAfter(slow)
	equal(t, again, true)
}

func TestAddressesBeyondLoopbackAreCalledWithTLS(t *testing.T) {
	for address, want := range map[string]bool{
		"127.0.0.1:50051": true, "localhost:1": true, "[::1]:1": true, "unix:/run/hooks": true, "127.1.2.3": true,
		"hooks.internal:443": false, "10.0.0.1:50051": false, "localhost.example.com:443": false, "127.0.0.1.example.com:1": false,
	} {
		secure, err := (&settings{}).credentials(address)
		equal(t, err, nil)
		equal(t, secure.Info().SecurityProtocol == "insecure", want)
	}
	secure, err := (&settings{secure: true}).credentials("127.0.0.1:50051")
	equal(t, err, nil)
	equal(t, secure.Info().SecurityProtocol, "tls")
}

func TestOptionsThatContradictOneAnotherAreRefused(t *testing.T) {
	for _, options := range [][]Option{
		{WithToken("one"), WithTokenFile("two")}, {WithoutTLS(), WithTLS(TLS{})}, {WithTLS(TLS{CAFile: "nowhere"})},
	} {
		if _, err := New("127.0.0.1:1", options...); err == nil {
			t.Fatal("there is no error")
		}
	}
}
