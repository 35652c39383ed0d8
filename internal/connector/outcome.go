package connector

import (
	"errors"
	"net/http"
	"regexp"
	"strconv"
	"strings"
	"time"

	"github.com/stagewire/stagewire/internal/hub"
)

// ErrNotSent marks an error of a Call whose request surely never left: nothing can have happened at the vendor.
var ErrNotSent = errors.New("not sent")

// outcomeRule says what an answer means; the first whose condition holds decides.
type outcomeRule struct {
	when   *expression
	is     hub.Outcome
	gone   bool        // skipped, because the customer's record is not there any more
	reason *expression // for a person; codes, never the vendor's free text
	after  *expression // seconds to wait
}

func (l *loader) outcomes(a at, env any) []outcomeRule {
	var out []outcomeRule
	for _, x := range a.list() {
		o := x.object("when", "is", "reason", "after")
		r := outcomeRule{when: o["when"].expression(env, wantsBool), reason: o["reason"].expression(env, wantsAny), after: o["after"].expression(env, wantsAny)}
		r.is = hub.Outcome(o["is"].oneOf("", "delivered", "retry", "refused", "uncertain", "skipped", "gone"))
		if r.is == "gone" {
			r.is, r.gone = hub.Skipped, true
		}
		if r.when == nil || r.is == "" {
			x.problem("", "an outcome needs when and is")
		}
		out = append(out, r)
	}
	return out
}

// verdict is what an answer means.
type verdict struct {
	outcome hub.Outcome
	gone    bool
	reason  string
	after   time.Duration
}

// judge classifies an answer: own rules, then shared ones, then by status. Where the request creates something, an answer that leaves
// open whether it did is uncertain instead of retry.
func judge(own, shared []outcomeRule, env any, resp Response, creates bool) (verdict, error) {
	for _, rules := range [][]outcomeRule{own, shared} {
		for i := range rules {
			ok, err := rules[i].when.holds(env)
			if err != nil || !ok {
				continue // a condition that cannot be asked of this body does not hold
			}
			v := verdict{outcome: rules[i].is, gone: rules[i].gone, after: retryAfter(resp)}
			if rules[i].reason != nil {
				if s, err := rules[i].reason.string(env); err == nil {
					v.reason = publicText(s)
				}
			}
			if rules[i].after != nil {
				if x, err := rules[i].after.run(env); err == nil {
					if n, err := asNumber(x); err == nil && n > 0 {
						v.after = time.Duration(min(n, 7*86400) * float64(time.Second))
					}
				}
			}
			return v, nil
		}
	}
	return byStatus(resp, creates), nil
}

// byStatus is what an answer means where no rule says otherwise. 401 is retried: the client has refreshed its token by
// then, and a revoked one is mended by a person, not by giving up.
func byStatus(resp Response, creates bool) verdict {
	v := verdict{after: retryAfter(resp)}
	switch s := resp.Status; {
	case s >= 200 && s < 300:
		v.outcome = hub.Delivered
	case s == http.StatusTooManyRequests, s == http.StatusServiceUnavailable, s == http.StatusTooEarly, s == http.StatusUnauthorized:
		v.outcome = hub.Retry
	case s == http.StatusRequestTimeout, s >= 500:
		v.outcome = hub.Retry
		if creates {
			v.outcome = hub.Uncertain
		}
	default: // 3xx too: we do not follow a vendor elsewhere with a token in hand
		v.outcome = hub.Refused
	}
	if v.outcome != hub.Delivered {
		v.reason = "status " + strconv.Itoa(resp.Status)
	}
	return v
}

// noAnswer is what an error of a Call means.
func noAnswer(err error, creates bool) verdict {
	v := verdict{outcome: hub.Retry, reason: publicText(err.Error())}
	var wait interface{ RetryAfter() time.Duration }
	if errors.As(err, &wait) {
		v.after = wait.RetryAfter()
	}
	switch {
	case errors.Is(err, hub.ErrInvalid):
		v.outcome = hub.Refused
	case errors.Is(err, ErrNotSent), errors.Is(err, hub.ErrBusy), errors.Is(err, hub.ErrUnauthenticated):
	case creates:
		v.outcome = hub.Uncertain
	}
	return v
}

var (
	mailLike  = regexp.MustCompile(`[^\s"'<>,;]+@[^\s"'<>,;]+`)
	phoneLike = regexp.MustCompile(`\+?\d[\d ()./-]{6,}\d`)
)

// publicText cuts a vendor's words to what may stand in a log: one line, short, without addresses and long numbers.
func publicText(s string) string {
	s, _, _ = strings.Cut(cleanText(strings.TrimSpace(s)), "\n")
	s = mailLike.ReplaceAllString(s, "…@…")
	s = phoneLike.ReplaceAllString(s, "…")
	return cutText(s, 200)
}

// withoutSecrets removes the connection's secrets from s, should a vendor echo one.
func withoutSecrets(s string, conn *hub.Connection) string {
	for _, all := range conn.Secrets {
		for _, secret := range all {
			if v := secret.Reveal(); len(v) >= 4 {
				s = strings.ReplaceAll(s, v, "[secret]")
			}
		}
	}
	return s
}
