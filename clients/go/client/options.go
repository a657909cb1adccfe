package client

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"strings"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/credentials/insecure"
)

// An Option is a setting of a [Client].
type Option func(*settings)

type settings struct {
	tls         TLS
	plain       bool
	secure      bool
	token       token
	patience    Patience
	dialOptions []grpc.DialOption
}

// TLS names files in PEM: the authorities to trust (none: the system's), and an own certificate for mutual TLS.
type TLS struct {
	CAFile   string
	CertFile string
	KeyFile  string
}

// Patience is how long one try of a call may take, and for how long a call that may be repeated is tried.
type Patience struct {
	Try   time.Duration // 0: 10 s
	Total time.Duration // 0: 60 s
}

// WithToken has each call carry a token.
func WithToken(text string) Option { return func(s *settings) { s.token.text = text } }

// WithTokenFile has each call carry the token that the file holds at that moment, so that a new one is used at once.
func WithTokenFile(path string) Option { return func(s *settings) { s.token.file = path } }

// WithTLS has the client call over TLS with these files. Without it TLS is on but for loopback, with the system's authorities.
func WithTLS(files TLS) Option { return func(s *settings) { s.tls, s.secure = files, true } }

// WithoutTLS has the client call in plain text, which is the default for loopback only.
func WithoutTLS() Option { return func(s *settings) { s.plain = true } }

// WithPatience sets how long calls are tried. It is no limit of a [Publisher] or a [Watcher].
func WithPatience(patience Patience) Option { return func(s *settings) { s.patience = patience } }

// WithDialOptions adds options of gRPC, such as interceptors for traces. They win over those of this package.
func WithDialOptions(options ...grpc.DialOption) Option {
	return func(s *settings) { s.dialOptions = append(s.dialOptions, options...) }
}

func settingsOf(options []Option) (*settings, error) {
	s := &settings{}
	for _, option := range options {
		option(s)
	}
	s.patience.Try = orElse(s.patience.Try, 10*time.Second)
	s.patience.Total = orElse(s.patience.Total, 60*time.Second)
	switch {
	case s.plain && s.secure:
		return nil, errors.New("either WithTLS or WithoutTLS, not both")
	case s.token.text != "" && s.token.file != "":
		return nil, errors.New("either WithToken or WithTokenFile, not both")
	}
	return s, nil
}

// credentials reads the files of TLS, and returns how to reach the address.
func (s *settings) credentials(address string) (credentials.TransportCredentials, error) {
	if s.plain || !s.secure && isLoopback(address) {
		return insecure.NewCredentials(), nil
	}
	config := &tls.Config{MinVersion: tls.VersionTLS12}
	if s.tls.CAFile != "" {
		authorities, err := os.ReadFile(s.tls.CAFile)
		if err != nil {
			return nil, err
		}
		config.RootCAs = x509.NewCertPool()
		if !config.RootCAs.AppendCertsFromPEM(authorities) {
			return nil, fmt.Errorf("%s holds no certificate", s.tls.CAFile)
		}
	}
	if s.tls.CertFile != "" || s.tls.KeyFile != "" {
		own, err := tls.LoadX509KeyPair(s.tls.CertFile, s.tls.KeyFile)
		if err != nil {
			return nil, err
		}
		config.Certificates = []tls.Certificate{own}
	}
	return credentials.NewTLS(config), nil
}

// isLoopback returns whether an address never leaves this machine.
func isLoopback(address string) bool {
	if strings.HasPrefix(address, "unix:") {
		return true
	}
	host := address
	if colon := strings.LastIndexByte(address, ':'); colon >= 0 && !strings.HasSuffix(address, "]") {
		host = address[:colon]
	}
	if host == "localhost" {
		return true
	}
	ip, err := netip.ParseAddr(strings.Trim(host, "[]"))
	return err == nil && ip.IsLoopback()
}

// orElse returns a value, or its default where it is zero.
func orElse[T comparable](value, usual T) T {
	var zero T
	if value == zero {
		return usual
	}
	return value
}
