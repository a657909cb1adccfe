package client

import (
	"bytes"
	"context"
	"errors"
	"io"
	"net/http"
)

const bodyMax = 1 << 20

type messageKey struct{}

// Verify returns a handler that calls next only with genuine requests, whose message is [MessageFrom]. Others are answered
// 400 with the reason as their text, and 413 where the body is larger than [WithBodyMax] allows. next may read the body
// again. Verify panics if a secret or a key can't be used ([KeySet.Err]), so that a program does not start with it.
func Verify(keys KeySet, next http.Handler, options ...VerifyOption) http.Handler {
	if err := keys.Err(); err != nil {
		panic(err)
	}
	limit := verifyingOf(options).bodyMax
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, err := io.ReadAll(http.MaxBytesReader(w, r.Body, limit))
		if err != nil {
			refuse(w, err)
			return
		}
		message, err := VerifySignature(r.Header, body, keys, options...)
		if err != nil {
			refuse(w, err)
			return
		}
		genuine := r.WithContext(context.WithValue(r.Context(), messageKey{}, message))
		genuine.Body = io.NopCloser(bytes.NewReader(body))
		next.ServeHTTP(w, genuine)
	})
}

// MessageFrom returns the message of a request that [Verify] has passed on, nil for any other.
func MessageFrom(ctx context.Context) *Message {
	message, _ := ctx.Value(messageKey{}).(*Message)
	return message
}

func refuse(w http.ResponseWriter, err error) {
	var invalid *SignatureInvalidError
	var tooLarge *http.MaxBytesError
	switch {
	case errors.As(err, &invalid):
		http.Error(w, invalid.Reason, http.StatusBadRequest)
	case errors.As(err, &tooLarge):
		http.Error(w, "BODY_TOO_LARGE", http.StatusRequestEntityTooLarge)
	default:
		http.Error(w, "BODY_UNREADABLE", http.StatusBadRequest)
	}
}
