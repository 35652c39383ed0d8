package funnel

import (
	"strconv"
	"time"
)

// ISO returns d as ISO 8601 has durations, in days of 24 hours and whole seconds: P9D, P1DT2H, PT1M30S, PT0S. What is less than a
// second is cut off.
func ISO(d time.Duration) string {
	sign := ""
	if d < 0 {
		sign, d = "-", -d
	}
	seconds := int64(d / time.Second)
	text := sign + "P"
	if days := seconds / secondsOfDay; days > 0 {
		text += strconv.FormatInt(days, 10) + "D"
	}
	rest := seconds % secondsOfDay
	if rest == 0 && seconds > 0 {
		return text
	}
	text += "T"
	for _, unit := range []struct {
		size int64
		name string
	}{{3600, "H"}, {60, "M"}} {
		if n := rest / unit.size; n > 0 {
			text += strconv.FormatInt(n, 10) + unit.name
		}
		rest %= unit.size
	}
	if rest > 0 || seconds == 0 {
		text += strconv.FormatInt(rest, 10) + "S"
	}
	return text
}
