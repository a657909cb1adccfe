package client

import (
	"bytes"
	"crypto/ed25519"
	"encoding/base64"
	"encoding/hex"
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"strconv"
	"strings"
	"testing"
	"time"
)

const (
	newSecret = "whsec_AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8="
	oldSecret = "free text"
	genuine   = `{"event":"job.done","timestamp":1,"data":{"n": 1}}`
)

func clock() time.Time { return start }

func signed(t *testing.T, body string, secrets ...string) http.Header {
	t.Helper()
	header := http.Header{}
	at := strconv.FormatInt(start.Unix(), 10)
	signatures := []string{}
	for _, secret := range secrets {
		key, err := keyOf(secret)
		equal(t, err, nil)
		signature := base64.StdEncoding.EncodeToString(mac(key, []byte("evt_1."+at+"."+body)))
		signatures = append(signatures, "v1,"+signature)
	}
	header.Set("webhook-id", "evt_1")
	header.Set("webhook-timestamp", at)
	header.Set("webhook-signature", strings.Join(signatures, " "))
	header.Set("X-Webhook-Signature", "sha256="+hex.EncodeToString(mac([]byte(secrets[len(secrets)-1]), []byte(body))))
	header.Set("X-Webhook-Event", "job.done")
	header.Set("X-Webhook-Attempt", "3")
	return header
}

func TestTheVectorOfStandardWebhooksIsGenuine(t *testing.T) {
	header := http.Header{}
	header.Set("webhook-id", "msg_p5jXN8AQM9LWM0D4loKWxJek")
	header.Set("webhook-timestamp", "1614265330")
	header.Set("webhook-signature", "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE=")
	given, err := readHeaders(header)
	equal(t, err, nil)
	keys := Secrets("whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw")
	equal(t, given.isGenuine([]byte(`{"test": 2432232314}`), keys), true)
}

func TestAGenuineDeliveryIsRead(t *testing.T) {
	for _, secrets := range [][]string{{newSecret}, {oldSecret}, {newSecret, oldSecret}, {oldSecret, newSecret}} {
		header := signed(t, genuine, newSecret, oldSecret)
		atTheEnd := WithClock(func() time.Time { return start.Add(usualTolerance) })
		message, err := VerifySignature(header, []byte(genuine), Secrets(secrets...), atTheEnd)
		equal(t, err, nil)
		equal(t, message.WebhookID+message.EventType+string(message.Data), `evt_1job.done{"n": 1}`)
		equal(t, message.Attempt, 3)
		equal(t, message.Timestamp.Equal(start), true)
	}
	equal(t, VerifyBodySignature(signed(t, genuine, newSecret, oldSecret), []byte(genuine), Secrets(newSecret, oldSecret)), nil)
}

func reasonOf(err error) string {
	var invalid *SignatureInvalidError
	if errors.As(err, &invalid) {
		return invalid.Reason
	}
	return ""
}

func TestEachMistakeHasItsName(t *testing.T) {
	for _, mistake := range []struct {
		name, value, body, secret string
		age                       time.Duration
		want                      string
	}{
		{"webhook-id", "evt_2", genuine, newSecret, 0, "SIGNATURE_WRONG"},
		{"webhook-timestamp", "1700000001", genuine, newSecret, 0, "SIGNATURE_WRONG"},
		{"webhook-signature", "v1,AAAA v2,ä", genuine, newSecret, 0, "SIGNATURE_WRONG"},
		{"webhook-signature", strings.Repeat("x ", signaturesMax-1) + "x", genuine, newSecret, 0, "SIGNATURE_WRONG"},
		{"webhook-signature", strings.Repeat("x ", signaturesMax) + "x", genuine, newSecret, 0, "HEADER_MALFORMED"},
		{"", "", genuine + " ", newSecret, 0, "SIGNATURE_WRONG"},
		{"", "", genuine, oldSecret, 0, "SIGNATURE_WRONG"},
		{"webhook-timestamp", "soon", genuine, newSecret, 0, "HEADER_MALFORMED"},
		{"webhook-timestamp", "-1", genuine, newSecret, 0, "HEADER_MALFORMED"},
		{"webhook-timestamp", "0001700000000", genuine, newSecret, 0, "HEADER_MALFORMED"},
		{"webhook-timestamp", "+1700000000", genuine, newSecret, 0, "HEADER_MALFORMED"},
		{"webhook-id", "", genuine, newSecret, 0, "HEADER_MISSING"},
		{"webhook-timestamp", "", genuine, newSecret, 0, "HEADER_MISSING"},
		{"webhook-signature", "", genuine, newSecret, 0, "HEADER_MISSING"},
		{"", "", genuine, newSecret, usualTolerance + time.Second, "TIMESTAMP_TOO_OLD"},
		{"", "", genuine, newSecret, -usualTolerance - time.Second, "TIMESTAMP_TOO_NEW"},
	} {
		header := signed(t, genuine, newSecret)
		if mistake.name != "" {
			header.Set(mistake.name, mistake.value)
		}
		now := WithClock(func() time.Time { return start.Add(mistake.age) })
		_, err := VerifySignature(header, []byte(mistake.body), Secrets(mistake.secret), now)
		equal(t, reasonOf(err), mistake.want)
	}
	_, err := VerifySignature(signed(t, "[]", newSecret), []byte("[]"), Secrets(newSecret), WithClock(clock))
	equal(t, reasonOf(err), "BODY_MALFORMED")
	equal(t, reasonOf(VerifyBodySignature(signed(t, genuine, newSecret), []byte("{}"), Secrets(newSecret))), "SIGNATURE_WRONG")
	equal(t, reasonOf(VerifyBodySignature(http.Header{}, []byte(genuine), Secrets(newSecret))), "HEADER_MISSING")
}

func TestKeysThatCannotBeUsedAreNamedAtTheStart(t *testing.T) {
	public := publicKeyText(signingKey(0))
	for _, secrets := range []KeySet{
		Secrets(), {}, Secrets(""), Secrets("whsec_"), Secrets(newSecret, "whsec_!"), Secrets(public), PublicKeys(),
		PublicKeys(newSecret), PublicKeys("whpk_AAAA"), PublicKeys("whpk_!"), PublicKeys(public, ""),
		PublicKeys(public).And(Secrets()), Secrets(newSecret).And(PublicKeys("")),
	} {
		if secrets.Err() == nil {
			t.Fatal("there is no error")
		}
		_, err := VerifySignature(signed(t, genuine, newSecret), []byte(genuine), secrets, WithClock(clock))
		equal(t, err != nil && reasonOf(err) == "", true)
		equal(t, VerifyBodySignature(signed(t, genuine, newSecret), []byte(genuine), secrets) != nil, true)
		func() {
			defer func() { equal(t, recover() != nil, true) }()
			Verify(secrets, http.NotFoundHandler())
		}()
	}
}

func signingKey(number byte) ed25519.PrivateKey {
	return ed25519.NewKeyFromSeed(bytes.Repeat([]byte{number}, ed25519.SeedSize))
}

func publicKeyText(key ed25519.PrivateKey) string {
	public, _ := key.Public().(ed25519.PublicKey)
	return publicKeyPrefix + base64.StdEncoding.EncodeToString(public)
}

// signedByKeys returns headers with what the keys have signed, behind a signature of newSecret.
func signedByKeys(t *testing.T, keys ...ed25519.PrivateKey) http.Header {
	t.Helper()
	header := signed(t, genuine, newSecret)
	for _, key := range keys {
		made := ed25519.Sign(key, []byte("evt_1."+header.Get("webhook-timestamp")+"."+genuine))
		entry := " v1a," + base64.StdEncoding.EncodeToString(made)
		header.Set("webhook-signature", header.Get("webhook-signature")+entry)
	}
	return header
}

func TestTheVectorOfEd25519IsGenuine(t *testing.T) { // that of tests/unit/test_signing_keys.py
	header := http.Header{}
	header.Set("webhook-id", "evt_01J8ZQ4T1X9V7M3N5K6P8R2S4T")
	header.Set("webhook-timestamp", "1767225600")
	header.Set("webhook-signature", "v1,AAAA v1a,3bB2N5KQ0r8eV30R8SWpjJVw3qHlavg20licNs4EJ3cl8WRVwYLOAU7lMr15F354FOrnIqQ1HKbDxHCZlTr/AQ==")
	given, err := readHeaders(header)
	equal(t, err, nil)
	keys := PublicKeys("whpk_JUO5L/EJVRFHatyDadtt3JM2ZaEZeN2hQE7hBmypVZ0=")
	equal(t, given.isGenuine([]byte("{}"), keys), true)
	equal(t, given.isGenuine([]byte("[]"), keys), false)
}

func TestAReceiverMayHavePublicKeysInPlaceOfSecrets(t *testing.T) {
	first, second, other := publicKeyText(signingKey(1)), publicKeyText(signingKey(2)), publicKeyText(signingKey(3))
	both := signedByKeys(t, signingKey(1), signingKey(2))
	for _, keys := range []KeySet{
		PublicKeys(first), PublicKeys(second), PublicKeys(other, second), PublicKeys(other).And(Secrets(newSecret)),
		Secrets(oldSecret).And(PublicKeys(second)),
	} {
		message, err := VerifySignature(both, []byte(genuine), keys, WithClock(clock))
		equal(t, err, nil)
		equal(t, message.WebhookID, "evt_1")
	}
	equal(t, VerifyBodySignature(both, []byte(genuine), Secrets(newSecret).And(PublicKeys(first))), nil)
	equal(t, VerifyBodySignature(both, []byte(genuine), PublicKeys(first)), errNoSecret)

	wrong := both.Clone()
	wrong.Set("webhook-signature", "v1a,AAAA v1a,ä v1a v1a,")
	moved := both.Clone()
	moved.Set("webhook-id", "evt_2")
	for _, header := range []http.Header{signedByKeys(t), signedByKeys(t, signingKey(2)), wrong, moved} {
		_, err := VerifySignature(header, []byte(genuine), PublicKeys(first), WithClock(clock))
		equal(t, reasonOf(err), "SIGNATURE_WRONG")
	}
	_, err := VerifySignature(both, []byte(genuine), Secrets(oldSecret), WithClock(clock))
	equal(t, reasonOf(err), "SIGNATURE_WRONG")
}

func TestTheMiddlewarePassesOnWhatIsGenuineOnly(t *testing.T) {
	handler := Verify(Secrets(newSecret, oldSecret), http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, err := io.ReadAll(r.Body)
		equal(t, err, nil)
		_, _ = io.WriteString(w, MessageFrom(r.Context()).WebhookID+" "+string(body))
	}), WithClock(clock), WithBodyMax(100))
	for _, try := range []struct {
		body       string
		wantStatus int
		want       string
	}{
		{genuine, http.StatusOK, "evt_1 " + genuine},
		{genuine + " ", http.StatusBadRequest, "SIGNATURE_WRONG\n"},
		{strings.Repeat(" ", 101), http.StatusRequestEntityTooLarge, "BODY_TOO_LARGE\n"},
	} {
		request := httptest.NewRequest(http.MethodPost, "/hook", strings.NewReader(try.body))
		request.Header = signed(t, genuine, oldSecret)
		answer := httptest.NewRecorder()
		handler.ServeHTTP(answer, request)
		equal(t, answer.Code, try.wantStatus)
		equal(t, answer.Body.String(), try.want)
	}
	equal(t, MessageFrom(t.Context()), nil)
}
