package client

import (
	"net/http"
	"strconv"
	"strings"
	"time"
)

// maxRetryAfter is the longest a vendor's Retry-After is believed: HubSpot's 477 names up to a day.
const maxRetryAfter = 24 * time.Hour

// RetryAfter reads a Retry-After header: seconds, also with a fraction, or an HTTP date (RFC 9110, 10.2.3). It returns 0 where there is none,
// it cannot be read, or it lies in the past, and at most a day.
func RetryAfter(header http.Header, now time.Time) time.Duration {
	text := strings.TrimSpace(header.Get("Retry-After"))
	if text == "" {
		return 0
	}
	if n, err := strconv.ParseFloat(text, 64); err == nil {
		if !(n > 0) { // NaN too
			return 0
		}
		if n >= maxRetryAfter.Seconds() {
			return maxRetryAfter
		}
		return time.Duration(n * float64(time.Second))
	}
	at, err := http.ParseTime(text)
	if err != nil {
		return 0
	}
	return min(max(0, at.Sub(now)), maxRetryAfter)
}
