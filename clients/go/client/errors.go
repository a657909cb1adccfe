package client

import (
	"errors"
	"fmt"
	"time"

	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	webhookv1 "github.com/webhook-grpc/webhook-grpc/generated/go/webhook/v1"
)

// What [errors.Is] finds in a [RefusedError] or a [CursorExpiredError].
var (
	// ErrInvalidArgument: fields are missing, malformed or out of range; see Violations.
	ErrInvalidArgument = errors.New("invalid argument")
	// ErrNotFound: there is no such thing, or no longer.
	ErrNotFound = errors.New("not found")
	// ErrAlreadyExists: the name is taken, or the request id was used for something else (REQUEST_ID_REUSED).
	ErrAlreadyExists = errors.New("already exists")
	// ErrFailedPrecondition: the state does not allow it, as for an event type that is unknown.
	ErrFailedPrecondition = errors.New("failed precondition")
	// ErrAborted: the resource was changed meanwhile (ETAG_MISMATCH); read it again.
	ErrAborted = errors.New("aborted")
	// ErrQuotaExceeded: the customer has as many as it may have.
	ErrQuotaExceeded = errors.New("quota exceeded")
	// ErrCursorExpired: the log does not reach back to the cursor, or is another one since a restore.
	ErrCursorExpired = errors.New("cursor expired")
)

// ErrClosed is the error of calls of a client that is closed, of events that come to a publisher after it was closed, and
// of those for which its Close did not wait. Such an event may have been published; its request id makes that safe to try.
var ErrClosed = errors.New("closed")

// A Violation is a field at fault: its path, and what is wrong with it.
type Violation struct {
	Field       string
	Description string
}

// A WebhookError is what the service reports about a call that failed.
type WebhookError struct {
	Code       codes.Code
	Reason     string // a fixed word such as EVENT_TYPE_UNKNOWN, empty if the service has not answered
	Message    string // for people
	Violations []Violation
	Metadata   map[string]string
	RetryAfter time.Duration // how long to wait before the next try, 0 if the service has not said it

	status *status.Status
}

// Error returns the reason, or else the code, and the message.
func (e *WebhookError) Error() string {
	if e.Reason == "" {
		return fmt.Sprintf("%v: %s", e.Code, e.Message)
	}
	return e.Reason + ": " + e.Message
}

// GRPCStatus returns the status of gRPC with all its details, for status.FromError.
func (e *WebhookError) GRPCStatus() *status.Status {
	if e.status == nil {
		return status.New(e.Code, e.Message)
	}
	return e.status
}

// A RefusedError says that the service refuses the request, and would refuse it again.
type RefusedError struct{ WebhookError }

// Unwrap returns the part that all errors have.
func (e *RefusedError) Unwrap() error { return &e.WebhookError }

// Is reports whether target is the Err… of this package for the refusal.
func (e *RefusedError) Is(target error) bool { return target == e.kind() }

func (e *RefusedError) kind() error {
	if e.Reason == "WEBHOOK_QUOTA" {
		return ErrQuotaExceeded
	}
	switch e.Code {
	case codes.InvalidArgument:
		return ErrInvalidArgument
	case codes.NotFound:
		return ErrNotFound
	case codes.AlreadyExists:
		return ErrAlreadyExists
	case codes.FailedPrecondition:
		return ErrFailedPrecondition
	case codes.Aborted:
		return ErrAborted
	default:
		return nil
	}
}

// An UnauthorizedError says that the token is missing, wrong or expired, or may not do this.
type UnauthorizedError struct{ WebhookError }

// Unwrap returns the part that all errors have.
func (e *UnauthorizedError) Unwrap() error { return &e.WebhookError }

// An UnavailableError says that the service gave no judgement in time. The call may have taken effect: repeat it with
// the same request id.
type UnavailableError struct{ WebhookError }

// Unwrap returns the part that all errors have.
func (e *UnavailableError) Unwrap() error { return &e.WebhookError }

// A CursorExpiredError says that a watcher has lost changes: the log does not reach back to its cursor, or is another one
// since a restore.
type CursorExpiredError struct{ WebhookError }

// Unwrap returns the part that all errors have.
func (e *CursorExpiredError) Unwrap() error { return &e.WebhookError }

// Is reports whether target is [ErrCursorExpired].
func (e *CursorExpiredError) Is(target error) bool { return target == ErrCursorExpired }

// OldestTime returns the time of the oldest change that can be had, zero if it is not known.
func (e *CursorExpiredError) OldestTime() time.Time {
	oldest, err := time.Parse(time.RFC3339, e.Metadata["oldest_time"])
	if err != nil {
		return time.Time{}
	}
	return oldest
}

// errorOf returns the error for a call that gRPC reports as failed, nil for nil.
func errorOf(err error) error {
	var known *WebhookError
	if err == nil || errors.As(err, &known) {
		return err
	}
	answer, ok := status.FromError(err)
	if !ok {
		answer = status.FromContextError(err)
	}
	problem := WebhookError{Code: answer.Code(), Message: answer.Message(), status: answer}
	for _, detail := range answer.Details() {
		problem.add(detail)
	}
	return typed(problem)
}

func (e *WebhookError) add(detail any) {
	switch detail := detail.(type) {
	case *errdetails.ErrorInfo:
		e.Reason, e.Metadata = detail.GetReason(), detail.GetMetadata()
	case *errdetails.BadRequest:
		for _, violation := range detail.GetFieldViolations() {
			e.Violations = append(e.Violations, Violation{violation.GetField(), violation.GetDescription()})
		}
	case *errdetails.RetryInfo:
		e.RetryAfter = detail.GetRetryDelay().AsDuration()
	}
}

// errorOfResult returns the error for one event of a batch.
func errorOfResult(result *webhookv1.BatchPublishError) error {
	problem := WebhookError{
		Code: codes.Code(uint32(result.GetCode())), Reason: result.GetReason(), Message: result.GetMessage(),
	}
	for _, violation := range result.GetFieldViolations() {
		problem.Violations = append(problem.Violations, Violation{violation.GetField(), violation.GetDescription()})
	}
	return typed(problem)
}

// typed returns the error for a problem. What says nothing of the request itself is an UnavailableError.
func typed(problem WebhookError) error {
	switch problem.Reason {
	case "CURSOR_EXPIRED", "CURSOR_OF_OTHER_LOG":
		return &CursorExpiredError{problem}
	case "WATCHER_TOO_SLOW":
		return &UnavailableError{problem}
	case "WEBHOOK_QUOTA":
		return &RefusedError{problem}
	}
	switch problem.Code {
	case codes.InvalidArgument, codes.NotFound, codes.AlreadyExists, codes.FailedPrecondition, codes.Aborted,
		codes.OutOfRange, codes.Unimplemented:
		return &RefusedError{problem}
	case codes.Unauthenticated, codes.PermissionDenied:
		return &UnauthorizedError{problem}
	default:
		return &UnavailableError{problem}
	}
}

// retryAfter returns whether calling again may help, and how long the service asked to wait before.
func retryAfter(err error) (time.Duration, bool) {
	var unavailable *UnavailableError
	if !errors.As(err, &unavailable) {
		return 0, false
	}
	return unavailable.RetryAfter, true
}
