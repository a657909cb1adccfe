package client

import "time"

const (
	pauseMin = 100 * time.Millisecond
	pauseMax = 2 * time.Second
)

// pause returns how long to wait after so many failures in a row: 0.1 s, doubled up to 2 s, and at least what the service
// asked. jitter is between 0 and 1, and takes off up to half, so that clients of one server do not come back at once.
func pause(failures int, asked time.Duration, jitter float64) time.Duration {
	doubled := min(pauseMax, pauseMin<<min(failures-1, 10))
	return max(time.Duration(float64(doubled)*(1-jitter/2)), asked)
}
