package client

import (
	"crypto/ed25519"
	"crypto/hmac"
	"encoding/base64"
	"errors"
	"fmt"
	"slices"
	"strings"
)

const (
	secretPrefix              = "whsec_"
	publicKeyPrefix           = "whpk_"
	publicKeySignatureVersion = "v1a,"
)

var (
	errNoKey    = errors.New("there is no secret and no public key to verify with")
	errNoSecret = errors.New("there is no secret to verify with")
)

// A KeySet holds what a receiver verifies with: secrets, public keys, or both. One of them is enough.
type KeySet struct {
	secrets    []string
	keys       [][]byte
	publicKeys []ed25519.PublicKey
	err        error
}

// Secrets returns the set of these secrets: while a secret is changed, the new and the old.
func Secrets(secrets ...string) KeySet {
	set := KeySet{secrets: secrets}
	if len(secrets) == 0 {
		set.err = errNoSecret
	}
	for _, secret := range secrets {
		key, err := keyOf(secret)
		set.keys, set.err = append(set.keys, key), errors.Join(set.err, err)
	}
	return set
}

// PublicKeys returns the set of these public keys (whpk_…), which verify the signatures of webhooks of the type Ed25519:
// while a key is changed, the new and the old.
func PublicKeys(publicKeys ...string) KeySet {
	set := KeySet{}
	if len(publicKeys) == 0 {
		set.err = errors.New("there is no public key to verify with")
	}
	for _, publicKey := range publicKeys {
		key, err := publicKeyOf(publicKey)
		set.publicKeys, set.err = append(set.publicKeys, key), errors.Join(set.err, err)
	}
	return set
}

// And returns the set of all keys of both. A receiver that goes over from secrets to public keys has both for that time:
// whoever has a secret can sign for it.
func (k KeySet) And(other KeySet) KeySet {
	return KeySet{
		secrets:    slices.Concat(k.secrets, other.secrets),
		keys:       slices.Concat(k.keys, other.keys),
		publicKeys: slices.Concat(k.publicKeys, other.publicKeys),
		err:        errors.Join(k.err, other.err),
	}
}

// Err returns what is wrong with the keys, nil if they can be used.
func (k KeySet) Err() error {
	if k.err == nil && len(k.keys)+len(k.publicKeys) == 0 {
		return errNoKey
	}
	return k.err
}

// haveSigned reports whether one of the signatures, each with its version in front, is that of one of the keys. It
// computes one for each secret, whatever somebody sends, and compares it in constant time.
func (k KeySet) haveSigned(signed []byte, signatures []string) bool {
	genuine := false
	for _, key := range k.keys {
		expected := []byte(signatureVersion + base64.StdEncoding.EncodeToString(mac(key, signed)))
		for _, signature := range signatures {
			genuine = hmac.Equal(expected, []byte(signature)) || genuine // all, whatever the first gave
		}
	}
	return genuine || slices.ContainsFunc(signatures, func(signature string) bool {
		return k.arePublicFor(signed, signature)
	})
}

// arePublicFor reports whether the private key of one of the public keys has made the signature.
func (k KeySet) arePublicFor(signed []byte, signature string) bool {
	text, isPublic := strings.CutPrefix(signature, publicKeySignatureVersion)
	made, err := base64.StdEncoding.DecodeString(text)
	return isPublic && err == nil && slices.ContainsFunc(k.publicKeys, func(key ed25519.PublicKey) bool {
		return ed25519.Verify(key, signed, made)
	})
}

// keyOf returns the key: base64 behind whsec_, or the UTF-8 bytes of free text.
func keyOf(secret string) ([]byte, error) {
	if strings.HasPrefix(secret, publicKeyPrefix) { // anybody knows it: as a secret it would prove nothing
		return nil, errors.New("what begins with " + publicKeyPrefix + " is a public key, no secret: give it to PublicKeys")
	}
	text, isStandard := strings.CutPrefix(secret, secretPrefix)
	if text == "" {
		return nil, errors.New("a secret is empty")
	}
	if !isStandard {
		return []byte(secret), nil
	}
	key, err := base64.StdEncoding.DecodeString(text)
	if err != nil {
		return nil, errors.New("what follows " + secretPrefix + " in a secret is not base64")
	}
	return key, nil
}

func publicKeyOf(publicKey string) (ed25519.PublicKey, error) {
	text, isPublic := strings.CutPrefix(publicKey, publicKeyPrefix)
	key, err := base64.StdEncoding.DecodeString(text)
	if !isPublic || err != nil || len(key) != ed25519.PublicKeySize {
		return nil, fmt.Errorf("a public key is %s and base64 of %d bytes", publicKeyPrefix, ed25519.PublicKeySize)
	}
	return key, nil
}
