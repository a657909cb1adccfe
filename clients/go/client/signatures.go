package client

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"net/http"
	"strconv"
	"strings"
	"time"
)

const (
	signatureVersion = "v1,"
	usualTolerance   = 5 * time.Minute
	signaturesMax    = 32 // in one header; the service sends four at most: of two secrets and two keys
)

// A SignatureInvalidError says that a request is not to be trusted. Reason is HEADER_MISSING, HEADER_MALFORMED,
// TIMESTAMP_TOO_OLD, TIMESTAMP_TOO_NEW, SIGNATURE_WRONG or BODY_MALFORMED.
type SignatureInvalidError struct {
	Reason  string
	Message string
}

// Error returns the reason and the message.
func (e *SignatureInvalidError) Error() string { return e.Reason + ": " + e.Message }

// A Message is a genuine delivery.
type Message struct {
	// WebhookID is the header webhook-id: the same on every attempt, so drop what you have.
	WebhookID string
	EventType string
	Attempt   int
	// Timestamp is when the attempt was signed.
	Timestamp time.Time
	// Data is the event's data, byte for byte as it was published.
	Data json.RawMessage
}

// A VerifyOption is a setting of [VerifySignature] and [Verify].
type VerifyOption func(*verifying)

type verifying struct {
	tolerance time.Duration
	now       func() time.Time
	bodyMax   int64
}

// WithTolerance sets how old, or how far in the future, a request may be; the default is five minutes.
func WithTolerance(tolerance time.Duration) VerifyOption {
	return func(v *verifying) { v.tolerance = tolerance }
}

// WithClock sets the clock, which is the system's by default.
func WithClock(now func() time.Time) VerifyOption { return func(v *verifying) { v.now = now } }

// WithBodyMax sets how many bytes a body may have in [Verify]; the default is 1 MiB.
func WithBodyMax(bytes int64) VerifyOption { return func(v *verifying) { v.bodyMax = bytes } }

func verifyingOf(options []VerifyOption) verifying {
	v := verifying{tolerance: usualTolerance, now: time.Now, bodyMax: bodyMax}
	for _, option := range options {
		option(&v)
	}
	return v
}

// VerifySignature returns the message if one of the secrets, or the private key of one of the public keys, has signed id,
// time and body, not too long ago. The form is that of Standard Webhooks
// (https://github.com/standard-webhooks/standard-webhooks): v1 and v1a. body is what came, byte for byte, before anything
// parsed it. The error is a SignatureInvalidError, or that of [KeySet.Err].
func VerifySignature(header http.Header, body []byte, keys KeySet, options ...VerifyOption) (*Message, error) {
	if err := keys.Err(); err != nil {
		return nil, err
	}
	signed, err := readHeaders(header)
	if err != nil {
		return nil, err
	}
	if !signed.isGenuine(body, keys) {
		return nil, &SignatureInvalidError{"SIGNATURE_WRONG", "no secret or key of yours has signed this id, time and body"}
	}
	v := verifyingOf(options)
	if err := checkTime(signed.at, v.now(), v.tolerance); err != nil {
		return nil, err
	}
	data, err := dataOf(body)
	if err != nil {
		return nil, err
	}
	return &Message{
		WebhookID: signed.id, EventType: header.Get("X-Webhook-Event"), Attempt: number(header.Get("X-Webhook-Attempt")),
		Timestamp: signed.at, Data: data,
	}, nil
}

// VerifyBodySignature returns nil if one of the secrets has signed the body (X-Webhook-Signature). It does not stop anybody
// from sending an old request again. Public keys can't verify it. The error is a SignatureInvalidError, that of
// [KeySet.Err], or one that says that there is no secret.
func VerifyBodySignature(header http.Header, body []byte, keys KeySet) error {
	if err := keys.Err(); err != nil {
		return err
	}
	if len(keys.secrets) == 0 {
		return errNoSecret
	}
	given, err := required(header, "X-Webhook-Signature")
	if err != nil {
		return err
	}
	genuine := false
	for _, secret := range keys.secrets {
		expected := "sha256=" + hex.EncodeToString(mac([]byte(secret), body))
		genuine = hmac.Equal([]byte(expected), []byte(given)) || genuine // all, whatever the first gave
	}
	if !genuine {
		return &SignatureInvalidError{"SIGNATURE_WRONG", "no secret of yours has signed this body"}
	}
	return nil
}

// signedHeaders are the three headers of Standard Webhooks.
type signedHeaders struct {
	id         string
	at         time.Time
	signatures []string
}

func readHeaders(header http.Header) (*signedHeaders, error) {
	id, err := required(header, "webhook-id")
	if err != nil {
		return nil, err
	}
	text, err := required(header, "webhook-timestamp")
	if err != nil {
		return nil, err
	}
	seconds, err := strconv.ParseUint(text, 10, 63)
	if err != nil || len(text) > 12 {
		return nil, &SignatureInvalidError{"HEADER_MALFORMED", "webhook-timestamp is not a number of seconds"}
	}
	signatures, err := required(header, "webhook-signature")
	if err != nil {
		return nil, err
	}
	list := strings.SplitN(signatures, " ", signaturesMax+1)
	if len(list) > signaturesMax {
		message := fmt.Sprintf("webhook-signature has more than %d signatures", signaturesMax)
		return nil, &SignatureInvalidError{"HEADER_MALFORMED", message}
	}
	return &signedHeaders{id, time.Unix(int64(seconds), 0), list}, nil
}

func required(header http.Header, name string) (string, error) {
	value := header.Get(name)
	if value == "" {
		return "", &SignatureInvalidError{"HEADER_MISSING", "the request has no " + strings.ToLower(name)}
	}
	return value, nil
}

// isGenuine reports whether one of the keys has made one of the signatures.
func (s *signedHeaders) isGenuine(body []byte, keys KeySet) bool {
	signed := append(fmt.Appendf(nil, "%s.%d.", s.id, s.at.Unix()), body...)
	return keys.haveSigned(signed, s.signatures)
}

func mac(key, signed []byte) []byte {
	hash := hmac.New(sha256.New, key)
	hash.Write(signed)
	return hash.Sum(nil)
}

func checkTime(signed, now time.Time, tolerance time.Duration) error {
	age := now.Sub(signed)
	switch {
	case age > tolerance:
		message := fmt.Sprintf("signed %v ago; is it sent again by somebody?", age.Round(time.Second))
		return &SignatureInvalidError{"TIMESTAMP_TOO_OLD", message}
	case -age > tolerance:
		message := fmt.Sprintf("signed %v in the future; is the clock right?", -age.Round(time.Second))
		return &SignatureInvalidError{"TIMESTAMP_TOO_NEW", message}
	}
	return nil
}

func dataOf(body []byte) (json.RawMessage, error) {
	var written struct{ Data json.RawMessage }
	if err := json.Unmarshal(body, &written); err != nil || written.Data == nil {
		return nil, &SignatureInvalidError{"BODY_MALFORMED", "the body is genuine, but not as the service writes them"}
	}
	return written.Data, nil
}

func number(text string) int {
	value, err := strconv.ParseUint(text, 10, 31)
	if err != nil {
		return 0
	}
	return int(value)
}
