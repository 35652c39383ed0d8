package delivery

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net/http"
	"strconv"
	"strings"
	"time"

	"github.com/go-json-experiment/json"
	"github.com/go-json-experiment/json/jsontext"

	"github.com/stagewire/stagewire/internal/hub"
	"github.com/stagewire/stagewire/internal/signature"
)

// Settings that delivery keeps of a subscription, by name.
const (
	settingVerified = "subscription.verified:" // hash of the URL that answered the test event
	settingDisabled = "subscription.disabled:" // hash of the URL, a blank, the reason
	settingFailing  = "subscription.failing:"  // since when nothing was delivered, RFC 3339
)

const (
	// testType is the event a new URL must answer before its first live one.
	testType = "stagewire.subscription.test.v1"
	// disableAfter switches a subscription off that took nothing for that long; notices are logged before, once a day.
	disableAfter = 5 * 24 * time.Hour
	noticeEvery  = 24 * time.Hour
	// memoryAge is how long the copies of a subscription's settings are trusted; other processes write them too.
	memoryAge = 10 * time.Second
)

// callback makes one attempt of a callback.
func (d *Dispatcher) callback(ctx context.Context, dest *destination, c *hub.Claimed) hub.Finished {
	s, ok := d.config.Subscription(strings.TrimPrefix(c.Destination, SubscriptionPrefix))
	if !ok {
		return park(c, "subscription gone")
	}
	if s.Paused {
		return handBack(c, c.DueAt)
	}
	if reason := d.disabled(ctx, dest, s); reason != "" {
		return park(c, "subscription disabled: "+reason)
	}
	id, err := eventID(c.Body)
	if err != nil {
		return d.settle(c, d.config.Callback, hub.Result{Outcome: hub.Refused, Error: "the frozen body has no id"})
	}
	result, gone := d.post(ctx, s, id, c.Body)
	switch {
	case gone:
		d.disable(ctx, dest, s, "the receiver answered 410")
	case result.Outcome == hub.Retry && throttled(result):
		dest.rest(min(result.RetryAfter, 15*time.Minute))
	case result.Outcome == hub.Retry:
		d.failed(dest, result.Error, false)
		d.failing(ctx, dest, s)
	default:
		dest.succeeded()
		d.works(ctx, dest, s)
	}
	return d.settle(c, d.config.Callback, result)
}

// post signs and sends one body. gone reports a 410.
func (d *Dispatcher) post(ctx context.Context, s Subscription, id string, body []byte) (result hub.Result, gone bool) {
	now := d.now()
	signed, err := signature.SignStandard(s.Secrets, id, now, body)
	if err != nil {
		return hub.Result{Outcome: hub.Retry, Error: err.Error()}, false // the secret can be mended
	}
	header := http.Header{
		"Content-Type":      {"application/cloudevents+json"},
		"Webhook-Id":        {id},
		"Webhook-Timestamp": {strconv.FormatInt(now.Unix(), 10)},
		"Webhook-Signature": {signed},
	}
	status, after, err := d.config.Poster.Post(ctx, s.URL, header, body, s.AllowPrivate)
	if err != nil {
		return hub.Result{Outcome: hub.Retry, Error: err.Error()}, false
	}
	switch {
	case status/100 == 2:
		return hub.Result{Outcome: hub.Delivered, Status: status}, false
	case status == http.StatusGone:
		return hub.Result{Outcome: hub.Refused, Status: status, Error: "the receiver wants no more (410)"}, true
	case status == http.StatusUnprocessableEntity:
		return hub.Result{Outcome: hub.Refused, Status: status, Error: "the receiver cannot process this callback (422)"}, false
	case status/100 == 3:
		return hub.Result{Outcome: hub.Retry, Status: status, Error: "the receiver redirects, which is not followed"}, false
	}
	return hub.Result{Outcome: hub.Retry, Status: status, RetryAfter: after, Error: "the receiver answered " + strconv.Itoa(status)}, false
}

// eventID returns the id of a CloudEvent in JSON.
func eventID(body []byte) (string, error) {
	dec := jsontext.NewDecoder(bytes.NewReader(body))
	if tok, err := dec.ReadToken(); err != nil || tok.Kind() != '{' {
		return "", fmt.Errorf("callback body: not an object: %w", hub.ErrInvalid)
	}
	for dec.PeekKind() == '"' {
		name, err := dec.ReadToken()
		if err != nil {
			break
		}
		if name.String() != "id" {
			if err := dec.SkipValue(); err != nil {
				break
			}
			continue
		}
		value, err := dec.ReadToken()
		if err != nil || value.Kind() != '"' || value.String() == "" {
			break
		}
		return value.String(), nil
	}
	return "", fmt.Errorf("callback body: no id: %w", hub.ErrInvalid)
}

// Test sends a signed test event to a subscription's URL, whatever its state, and returns the status it answered; 2xx makes
// the URL good for live events. It wraps hub.ErrNotFound for an unknown subscription and hub.ErrTransient where no answer came.
func (d *Dispatcher) Test(ctx context.Context, name string) (int, error) {
	s, ok := d.config.Subscription(name)
	if !ok {
		return 0, fmt.Errorf("subscription %s: %w", name, hub.ErrNotFound)
	}
	dest := d.destination(SubscriptionPrefix + name)
	d.recall(ctx, dest, s)
	result, _ := d.test(ctx, dest, s)
	if result.Status == 0 {
		return 0, fmt.Errorf("subscription %s: %s: %w", name, result.Error, hub.ErrTransient)
	}
	return result.Status, nil
}

// test sends a test event and remembers a good answer.
func (d *Dispatcher) test(ctx context.Context, dest *destination, s Subscription) (hub.Result, bool) {
	now := d.now()
	id := hub.DeriveID("tst_", s.Name, s.URL, now.Format(time.RFC3339Nano))
	event := struct {
		SpecVersion string            `json:"specversion"`
		ID          string            `json:"id"`
		Source      string            `json:"source"`
		Type        string            `json:"type"`
		Time        string            `json:"time"`
		ContentType string            `json:"datacontenttype"`
		Schema      string            `json:"dataschema,omitempty"`
		Mode        string            `json:"mode"`
		Data        map[string]string `json:"data"`
	}{
		SpecVersion: "1.0", ID: id, Source: d.config.Source, Type: testType, Time: now.UTC().Format("2006-01-02T15:04:05.000Z07:00"),
		ContentType: "application/json", Mode: "test", Data: map[string]string{"subscription": s.Name},
	}
	if d.config.PublicURL != "" {
		event.Schema = strings.TrimSuffix(d.config.PublicURL, "/") + "/api/v1/events/catalogue/subscription.test.v1"
	}
	body, err := json.Marshal(event)
	if err != nil {
		return hub.Result{Outcome: hub.Retry, Error: "the test event cannot be encoded"}, false
	}
	result, gone := d.post(ctx, s, id, body)
	if result.Outcome == hub.Delivered {
		hash := hashURL(s.URL)
		if err := d.config.Store.SaveSetting(ctx, settingVerified+s.Name, hash); err != nil {
			return hub.Result{Outcome: hub.Retry, Error: "the store cannot remember that the URL is good"}, false
		}
		dest.mu.Lock()
		dest.verified = hash
		dest.mu.Unlock()
	}
	d.log.Info("subscription tested", "subscription", s.Name, "status", result.Status, "outcome", string(result.Outcome), "error", result.Error)
	return result, gone
}

// verify reports whether the subscription's URL has answered a test event, sending one if it has not. A failure opens the breaker, so that
// it is repeated ever less often.
func (d *Dispatcher) verify(ctx, attempts context.Context, dest *destination, s Subscription) bool {
	if !d.recall(ctx, dest, s) {
		return false
	}
	dest.mu.Lock()
	verified := dest.verified == hashURL(s.URL)
	dest.mu.Unlock()
	if verified || s.Paused {
		return verified
	}
	attempt, cancel := context.WithTimeoutCause(attempts, callbackAttempt, errAttemptTimeout)
	defer cancel()
	result, gone := d.test(attempt, dest, s)
	switch {
	case gone:
		d.disable(ctx, dest, s, "the receiver answered 410 to the test event")
		return true // the deliveries are claimed and parked
	case result.Outcome == hub.Delivered:
		dest.succeeded()
		d.works(ctx, dest, s)
		return true
	}
	d.failed(dest, "test event: "+result.Error, true)
	d.failing(ctx, dest, s)
	return false
}

// recall reads the subscription's settings where the copies are old. It reports false when they cannot be read.
func (d *Dispatcher) recall(ctx context.Context, dest *destination, s Subscription) bool {
	now := d.now()
	dest.mu.Lock()
	fresh := !dest.readAt.IsZero() && now.Sub(dest.readAt) < memoryAge
	dest.mu.Unlock()
	if fresh {
		return true
	}
	ctx = context.WithoutCancel(ctx)
	verified, err1 := d.config.Store.Setting(ctx, settingVerified+s.Name)
	disabled, err2 := d.config.Store.Setting(ctx, settingDisabled+s.Name)
	failing, err3 := d.config.Store.Setting(ctx, settingFailing+s.Name)
	if err := errors.Join(err1, err2, err3); err != nil {
		d.log.Error("settings of a subscription cannot be read", "subscription", s.Name, "error", err.Error())
		dest.rest(storeRest)
		return false
	}
	since, _ := time.Parse(time.RFC3339Nano, failing) // zero where there is none
	dest.mu.Lock()
	defer dest.mu.Unlock()
	dest.readAt, dest.verified, dest.disabled, dest.failingSince = now, verified, disabled, since
	return true
}

// disabled returns why the subscription is switched off, "" where it is not. Another URL switches it on again.
func (d *Dispatcher) disabled(ctx context.Context, dest *destination, s Subscription) string {
	d.recall(ctx, dest, s)
	dest.mu.Lock()
	text := dest.disabled
	dest.mu.Unlock()
	if text == "" {
		return ""
	}
	hash, reason, _ := strings.Cut(text, " ")
	if hash != hashURL(s.URL) {
		return ""
	}
	return reason
}

// disable switches the subscription off until Enable or another URL.
func (d *Dispatcher) disable(ctx context.Context, dest *destination, s Subscription, reason string) {
	text := hashURL(s.URL) + " " + reason
	dest.mu.Lock()
	again := dest.disabled == text
	dest.disabled = text
	dest.mu.Unlock()
	if again {
		return
	}
	d.log.Warn("subscription disabled", "subscription", s.Name, "error", reason)
	if err := d.config.Store.SaveSetting(context.WithoutCancel(ctx), settingDisabled+s.Name, text); err != nil {
		d.log.Error("subscription cannot be recorded as disabled", "subscription", s.Name, "error", err.Error())
	}
}

// Enable switches a disabled subscription on again; what was parked becomes due. Its URL is tested anew.
func (d *Dispatcher) Enable(ctx context.Context, name string) error {
	dest := d.destination(SubscriptionPrefix + name)
	for _, key := range []string{settingDisabled, settingFailing, settingVerified} {
		if err := d.config.Store.SaveSetting(ctx, key+name, ""); err != nil {
			return fmt.Errorf("subscription %s: %w", name, err)
		}
	}
	dest.mu.Lock()
	dest.readAt, dest.disabled, dest.verified, dest.failingSince = time.Time{}, "", "", time.Time{}
	dest.breaker.success()
	dest.quiet = time.Time{}
	dest.mu.Unlock()
	d.Reloaded()
	return nil
}

// failing notes that the subscription took nothing, since when, and switches it off after disableAfter.
func (d *Dispatcher) failing(ctx context.Context, dest *destination, s Subscription) {
	now := d.now()
	dest.mu.Lock()
	since, warned := dest.failingSince, dest.warnedAt
	if since.IsZero() {
		dest.failingSince, dest.warnedAt = now, now
	} else if now.Sub(warned) >= noticeEvery {
		dest.warnedAt = now
	}
	dest.mu.Unlock()
	switch {
	case since.IsZero():
		if err := d.config.Store.SaveSetting(context.WithoutCancel(ctx), settingFailing+s.Name, now.UTC().Format(time.RFC3339Nano)); err != nil {
			d.log.Error("failing subscription cannot be recorded", "subscription", s.Name, "error", err.Error())
		}
	case now.Sub(since) >= disableAfter:
		d.disable(ctx, dest, s, fmt.Sprintf("nothing was delivered since %s", since.UTC().Format(time.RFC3339)))
	case now.Sub(since) >= noticeEvery && now.Sub(warned) >= noticeEvery:
		d.log.Warn("subscription takes no callbacks and will be disabled", "subscription", s.Name, "since", since, "at", since.Add(disableAfter))
	}
}

// works notes that the subscription takes callbacks.
func (d *Dispatcher) works(ctx context.Context, dest *destination, s Subscription) {
	dest.mu.Lock()
	was := !dest.failingSince.IsZero()
	dest.failingSince, dest.warnedAt = time.Time{}, time.Time{}
	dest.mu.Unlock()
	if !was {
		return
	}
	if err := d.config.Store.SaveSetting(context.WithoutCancel(ctx), settingFailing+s.Name, ""); err != nil {
		d.log.Error("recovered subscription cannot be recorded", "subscription", s.Name, "error", err.Error())
		dest.mu.Lock()
		dest.readAt = time.Time{} // so that it is read, and cleared, again
		dest.mu.Unlock()
	}
}
