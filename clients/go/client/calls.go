package client

import (
	"strings"
	"time"
)

// batchTimeMax is for one try of a batch: as long as the service takes for a call at most.
const batchTimeMax = 30 * time.Second

// tries are those of one call.
type tries struct {
	until     time.Time
	mayRepeat bool
	failures  int
	last      error
}

func newTries(patience Patience, now time.Time, mayRepeat bool) *tries {
	return &tries{until: now.Add(patience.Total), mayRepeat: mayRepeat}
}

// failed returns how long to wait before the next try, or the error if another try would not help, or is not allowed.
func (t *tries) failed(err error, now time.Time, jitter float64) (time.Duration, error) {
	t.failures++
	t.last = err
	asked, again := retryAfter(err)
	wait := pause(t.failures, asked, jitter)
	if !again || !t.mayRepeat || !now.Add(wait).Before(t.until) {
		return 0, err
	}
	return wait, nil
}

// mayRepeat returns whether a call may be made again although the last one may have taken effect: a read, or a request
// with a request id.
func mayRepeat(method string, request any) bool {
	name := method[strings.LastIndexByte(method, '/')+1:]
	for _, verb := range []string{"Get", "List", "Explain"} {
		if strings.HasPrefix(name, verb) {
			return true
		}
	}
	named, ok := request.(interface{ GetRequestId() string })
	return ok && named.GetRequestId() != ""
}
