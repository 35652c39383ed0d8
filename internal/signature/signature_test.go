package signature_test

import (
	"errors"
	"os"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/go-json-experiment/json"
	standardwebhooks "github.com/standard-webhooks/standard-webhooks/libraries/go"

	"github.com/stagewire/stagewire/internal/hub"
	"github.com/stagewire/stagewire/internal/signature"
)

func secrets(values ...string) []hub.Secret {
	var out []hub.Secret
	for _, v := range values {
		out = append(out, hub.NewSecret(v))
	}
	return out
}

func webhook(body string, headers ...string) *hub.Webhook {
	w := &hub.Webhook{Method: "POST", URL: "https://hub.example.com/hooks/x", Body: []byte(body)}
	for i := 0; i+1 < len(headers); i += 2 {
		w.Headers = append(w.Headers, hub.Header{Name: headers[i], Value: headers[i+1]})
	}
	return w
}

func must(t testing.TB, h signature.HMAC) *signature.HMAC {
	t.Helper()
	v, err := signature.NewHMAC(h)
	if err != nil {
		t.Fatal(err)
	}
	return v
}

const sample = `{"id":1001,"email":"ada@example.com"}`

// The worked examples of the vendors' fact sheets, and every way to fail them.
func TestHMAC(t *testing.T) {
	at := time.Date(2026, 3, 2, 9, 30, 0, 0, time.UTC)
	shopify := must(t, signature.HMAC{Headers: []string{"X-Shopify-Hmac-Sha256", "Shopify-Hmac-Sha256"}})
	zendesk := must(t, signature.HMAC{Headers: []string{"X-Zendesk-Webhook-Signature"}, Signs: "timestamp + bytes", Timestamp: []string{"X-Zendesk-Webhook-Signature-Timestamp"}, TimestampFormat: signature.RFC3339})
	good := []string{"X-Shopify-Hmac-Sha256", "res2v0rG9WLTUGPKhX9GmVk6IK3bJ6+GUsrcHJP7eiQ="}
	timed := []string{"X-Zendesk-Webhook-Signature-Timestamp", "2026-03-02T09:30:00Z", "x-zendesk-webhook-signature", "bjQsDPOK7hIaEmUdCNk4bU83YN7vtgYepO0Tee46VS4="}
	for _, tc := range []struct {
		name    string
		v       signature.Verifier
		w       *hub.Webhook
		secrets []hub.Secret
		now     time.Time
		want    error // nil, ErrUnauthenticated, or ErrStale
	}{
		{"shopify", shopify, webhook(sample, good...), secrets("test-secret-shopify"), at, nil},
		{"shopify, second header", shopify, webhook(sample, "shopify-hmac-sha256", good[1]), secrets("test-secret-shopify"), at, nil},
		{"shopify, any time", shopify, webhook(sample, good...), secrets("test-secret-shopify"), at.AddDate(1, 0, 0), nil},
		{"rotated", shopify, webhook(sample, good...), secrets("new", "test-secret-shopify"), at, nil},
		{"an empty secret beside", shopify, webhook(sample, good...), secrets("", "test-secret-shopify"), at, nil},
		{"one byte changed", shopify, webhook(strings.Replace(sample, "1001", "1002", 1), good...), secrets("test-secret-shopify"), at, hub.ErrUnauthenticated},
		{"one byte more", shopify, webhook(sample+"\n", good...), secrets("test-secret-shopify"), at, hub.ErrUnauthenticated},
		{"another secret", shopify, webhook(sample, good...), secrets("test-secret-shopifY"), at, hub.ErrUnauthenticated},
		{"no secret", shopify, webhook(sample, good...), nil, at, hub.ErrUnauthenticated},
		{"an empty secret", shopify, webhook(sample, good...), secrets(""), at, hub.ErrUnauthenticated},
		{"no header", shopify, webhook(sample), secrets("test-secret-shopify"), at, hub.ErrUnauthenticated},
		{"not base64", shopify, webhook(sample, "X-Shopify-Hmac-Sha256", "!!"), secrets("test-secret-shopify"), at, hub.ErrUnauthenticated},
		{"trailing bits", shopify, webhook(sample, "X-Shopify-Hmac-Sha256", "res2v0rG9WLTUGPKhX9GmVk6IK3bJ6+GUsrcHJP7eiR="), secrets("test-secret-shopify"), at, hub.ErrUnauthenticated},
		{"half a signature", shopify, webhook(sample, "X-Shopify-Hmac-Sha256", "res2v0rG9WLTUGPKhX9GmQ=="), secrets("test-secret-shopify"), at, hub.ErrUnauthenticated},
		{"zendesk", zendesk, webhook(sample, timed...), secrets("test-secret-zendesk"), at, nil},
		{"zendesk, at the edge", zendesk, webhook(sample, timed...), secrets("test-secret-zendesk"), at.Add(5 * time.Minute), nil},
		{"zendesk, late", zendesk, webhook(sample, timed...), secrets("test-secret-zendesk"), at.Add(5*time.Minute + 1), hub.ErrStale},
		{"zendesk, early", zendesk, webhook(sample, timed...), secrets("test-secret-zendesk"), at.Add(-5*time.Minute - 1), hub.ErrStale},
		{"zendesk, forged is not stale", zendesk, webhook("x", timed...), secrets("test-secret-zendesk"), at.Add(time.Hour), hub.ErrUnauthenticated},
		{"zendesk, no timestamp", zendesk, webhook(sample, timed[2:]...), secrets("test-secret-zendesk"), at, hub.ErrUnauthenticated},
		{"zendesk, another timestamp", zendesk, webhook(sample, timed[0], "2026-03-02T09:30:01Z", timed[2], timed[3]), secrets("test-secret-zendesk"), at, hub.ErrUnauthenticated},
	} {
		t.Run(tc.name, func(t *testing.T) { check(t, tc.v.Verify(tc.w, tc.secrets, tc.now), tc.want, tc.secrets) })
	}
}

func check(t *testing.T, err, want error, secrets []hub.Secret) {
	t.Helper()
	if want == nil {
		if err != nil {
			t.Error(err)
		}
		return
	}
	if !errors.Is(err, hub.ErrUnauthenticated) || errors.Is(err, hub.ErrStale) != errors.Is(want, hub.ErrStale) {
		t.Fatalf("got %v, want %v", err, want)
	}
	for _, s := range secrets {
		if !s.IsZero() && strings.Contains(err.Error(), s.Reveal()) {
			t.Error("the error holds the secret")
		}
	}
}

// Each knob, signed by Sign and checked by hand where there is a published value.
func TestHMACKnobs(t *testing.T) {
	now := time.Unix(1718000000, 0)
	for name, h := range map[string]signature.HMAC{
		"hex with a prefix": {Encoding: "hex", Prefix: "sha256=", Headers: []string{"X-Sig"}},
		"sha1":              {Hash: "sha1", Encoding: "hex", Headers: []string{"X-Sig"}},
		"sha512":            {Hash: "sha512", Headers: []string{"X-Sig"}},
		"base64url":         {Encoding: "base64url", Headers: []string{"X-Sig"}},
		"base64 key":        {Key: "base64", Headers: []string{"X-Sig"}},
		"hex key":           {Key: "hex", Headers: []string{"X-Sig"}},
		"everything signed": {Headers: []string{"X-Sig"}, Signs: `method + url + header("X-Extra") + "." + timestamp + "." + bytes`, Timestamp: []string{"X-Time"}},
		"milliseconds":      {Headers: []string{"X-Sig"}, Signs: `timestamp + bytes`, Timestamp: []string{"X-Time"}, TimestampFormat: signature.UnixMilli},
	} {
		t.Run(name, func(t *testing.T) {
			v := must(t, h)
			secret := hub.NewSecret("3031323334353637")
			if h.Key == "base64" {
				secret = hub.NewSecret("dGVzdC1zZWNyZXQ=")
			}
			stamp := "1718000000"
			if h.TimestampFormat == signature.UnixMilli {
				stamp += "000"
			}
			w := webhook(sample, "X-Time", stamp, "X-Extra", "more")
			sig, err := v.Sign(w, secret)
			if err != nil {
				t.Fatal(err)
			}
			w.Headers = append(w.Headers, hub.Header{Name: "X-Sig", Value: sig})
			if err := v.Verify(w, []hub.Secret{secret}, now); err != nil {
				t.Error(err)
			}
			if h.Prefix != "" {
				w.Headers[2].Value = strings.TrimPrefix(sig, h.Prefix)
				if err := v.Verify(w, []hub.Secret{secret}, now); !errors.Is(err, hub.ErrUnauthenticated) {
					t.Errorf("without prefix: %v", err)
				}
				w.Headers[2].Value = sig
			}
			for _, change := range []func(){func() { w.Body[0] ^= 1 }} {
				change()
				if err := v.Verify(w, []hub.Secret{secret}, now); !errors.Is(err, hub.ErrUnauthenticated) {
					t.Errorf("changed: %v", err)
				}
				change()
			}
			if strings.Contains(h.Signs, "url") {
				w.URL += "?x"
				if err := v.Verify(w, []hub.Secret{secret}, now); !errors.Is(err, hub.ErrUnauthenticated) {
					t.Errorf("another URL: %v", err)
				}
			}
		})
	}
}

func TestNewHMACRefuses(t *testing.T) {
	for name, h := range map[string]signature.HMAC{
		"no header":        {},
		"hash":             {Hash: "md5", Headers: []string{"X"}},
		"encoding":         {Encoding: "hexx", Headers: []string{"X"}},
		"key":              {Key: "raw", Headers: []string{"X"}},
		"signs":            {Signs: "timestmp + bytes", Headers: []string{"X"}},
		"signs, a quote":   {Signs: `"x + bytes`, Headers: []string{"X"}},
		"signs, no plus":   {Signs: `bytes bytes`, Headers: []string{"X"}},
		"time not signed":  {Timestamp: []string{"T"}, Headers: []string{"X"}},
		"time not named":   {Signs: "timestamp + bytes", Headers: []string{"X"}},
		"timestamp format": {Signs: "timestamp + bytes", Timestamp: []string{"T"}, TimestampFormat: "julian", Headers: []string{"X"}},
	} {
		if _, err := signature.NewHMAC(h); !errors.Is(err, hub.ErrInvalid) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// The vectors were checked against the vendor's own SDK.
func TestHubSpotVectors(t *testing.T) {
	text, err := os.ReadFile("testdata/hubspot.json")
	if err != nil {
		t.Fatal(err)
	}
	var vectors []struct {
		Name, Method, URL, Secret, Timestamp, Body, V1, V2, V3 string
	}
	if err := json.Unmarshal(text, &vectors, json.MatchCaseInsensitiveNames(true)); err != nil {
		t.Fatal(err)
	}
	if len(vectors) == 0 {
		t.Fatal("no vectors")
	}
	for _, v := range vectors {
		t.Run(v.Name, func(t *testing.T) {
			ms, _ := strconv.ParseInt(v.Timestamp, 10, 64)
			at := time.UnixMilli(ms)
			all := secrets(v.Secret)
			for version, sig := range map[int]string{1: v.V1, 2: v.V2, 3: v.V3} {
				name := "X-HubSpot-Signature"
				if version == 3 {
					name = "X-HubSpot-Signature-v3"
				}
				w := webhook(v.Body, "X-HubSpot-Request-Timestamp", v.Timestamp, name, sig)
				w.Method, w.URL = v.Method, v.URL
				h := signature.HubSpot{Version: version}
				check(t, h.Verify(w, all, at), nil, nil)
				check(t, h.Verify(w, secrets("other"), at), hub.ErrUnauthenticated, all)
				check(t, h.Verify(w, nil, at), hub.ErrUnauthenticated, all)
				if version == 3 {
					check(t, h.Verify(w, all, at.Add(5*time.Minute)), nil, nil)
					check(t, h.Verify(w, all, at.Add(5*time.Minute+time.Millisecond)), hub.ErrStale, all)
					check(t, h.Verify(w, all, at.Add(-6*time.Minute)), hub.ErrStale, all)
				}
				if version > 1 {
					w.URL += "x"
					check(t, h.Verify(w, all, at), hub.ErrUnauthenticated, all)
					w.URL = v.URL
				}
				w.Body = append(w.Body, ' ')
				check(t, h.Verify(w, all, at), hub.ErrUnauthenticated, all)
			}
		})
	}
}

// HubSpot decodes some escapes of the URL before hashing; %20 stays.
func TestHubSpotURL(t *testing.T) {
	plain := webhook("", "X-HubSpot-Request-Timestamp", "1")
	escaped := webhook("", "X-HubSpot-Request-Timestamp", "1")
	plain.URL, escaped.URL = "https://h.example/x?a=/b:c@d%20e", "https://h.example/x?a=%2Fb%3ac%40d%20e"
	h := signature.HubSpot{}
	one, _ := h.Sign(plain, hub.NewSecret("s"))
	two, _ := h.Sign(escaped, hub.NewSecret("s"))
	if one != two {
		t.Error("escapes are not decoded")
	}
	plain.URL = "https://h.example/x?a=/b:c@d e"
	if three, _ := h.Sign(plain, hub.NewSecret("s")); three == two {
		t.Error("a space was decoded")
	}
}

func TestToken(t *testing.T) {
	v := signature.Header("Bearer ", "Authorization", "X-Key")
	check(t, v.Verify(webhook("", "Authorization", "Bearer tok"), secrets("tok"), time.Time{}), nil, nil)
	check(t, v.Verify(webhook("", "Authorization", "Bearer tok"), secrets("new", "tok"), time.Time{}), nil, nil)
	check(t, v.Verify(webhook("", "Authorization", "tok"), secrets("tok"), time.Time{}), hub.ErrUnauthenticated, nil)
	check(t, v.Verify(webhook("", "Authorization", "Bearer tokk"), secrets("tok"), time.Time{}), hub.ErrUnauthenticated, nil)
	check(t, v.Verify(webhook(""), secrets("tok"), time.Time{}), hub.ErrUnauthenticated, nil)
	check(t, v.Verify(webhook("", "Authorization", "Bearer "), secrets(""), time.Time{}), hub.ErrUnauthenticated, nil)
	failing := signature.Token{From: func(*hub.Webhook) (string, error) { return "", hub.ErrInvalid }}
	check(t, failing.Verify(webhook(""), secrets("tok"), time.Time{}), hub.ErrUnauthenticated, nil)
}

const (
	standardOld = "whsec_dGVzdC1zZWNyZXQtc3RhbmRhcmQtd2ViaG9va3MhISE="
	standardNew = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"
)

// Our signatures are accepted by the reference library and the other way round, with two secrets while one is rotated.
func TestStandardAgainstTheLibrary(t *testing.T) {
	now := time.Now().Truncate(time.Second)
	body := []byte(`{"type":"stage.entered"}`)
	header, err := signature.SignStandard(secrets(standardNew, standardOld), "stg_1", now, body)
	if err != nil {
		t.Fatal(err)
	}
	if n := len(strings.Fields(header)); n != 2 {
		t.Fatalf("%d entries", n)
	}
	h := map[string][]string{"Webhook-Id": {"stg_1"}, "Webhook-Timestamp": {strconv.FormatInt(now.Unix(), 10)}, "Webhook-Signature": {header}}
	for _, s := range []string{standardNew, standardOld} {
		lib, err := standardwebhooks.NewWebhook(s)
		if err != nil {
			t.Fatal(err)
		}
		if err := lib.Verify(body, h); err != nil {
			t.Errorf("the library refuses ours: %v", err)
		}
		theirs, err := lib.Sign("stg_1", now, body)
		if err != nil {
			t.Fatal(err)
		}
		w := webhook(string(body), "webhook-id", "stg_1", "webhook-timestamp", strconv.FormatInt(now.Unix(), 10), "webhook-signature", theirs)
		check(t, signature.Standard{}.Verify(w, secrets(standardNew, standardOld), now), nil, nil)
		check(t, signature.Standard{}.Verify(w, secrets(s), now.Add(5*time.Minute+time.Second)), hub.ErrStale, secrets(s))
		check(t, signature.Standard{}.Verify(w, secrets("whsec_c29tZXRoaW5nIGVsc2UgZW50aXJlbHk="), now), hub.ErrUnauthenticated, secrets(s))
	}
}

func TestStandard(t *testing.T) {
	body, err := os.ReadFile("testdata/contact.stage_changed.json")
	if err != nil {
		t.Fatal(err)
	}
	id, at := "msg_2KWPBgLlAfxdpx2AI54pPJ85f4W", time.Unix(1718000000, 0)
	header, err := signature.SignStandard(secrets(standardOld), id, at, body)
	if err != nil || header != "v1,KVliUNnBR94YholF6AZbCeR0N87Zdp6eQhFJCFkUpjQ=" {
		t.Errorf("%s %v", header, err)
	}
	public, err := signature.SignStandard(secrets(standardNew), "msg_p5jXN8AQM9LWM0D4loKWxJek", time.Unix(1614265330, 0), []byte(`{"test": 2432232314}`))
	if err != nil || public != "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE=" {
		t.Errorf("%s %v", public, err)
	}
	good := []string{"webhook-id", id, "webhook-timestamp", "1718000000", "webhook-signature", "v1a,AAAA v2,x " + header}
	check(t, signature.Standard{}.Verify(webhook(string(body), good...), secrets(standardOld), at), nil, nil)
	svix := []string{"svix-id", id, "svix-timestamp", "1718000000", "svix-signature", header}
	check(t, signature.Standard{}.Verify(webhook(string(body), svix...), secrets("not base64!", standardOld), at), nil, nil)
	asymmetric := []string{"webhook-id", id, "webhook-timestamp", "1718000000", "webhook-signature", strings.Replace(header, "v1,", "v1a,", 1)}
	check(t, signature.Standard{}.Verify(webhook(string(body), asymmetric...), secrets(standardOld), at), hub.ErrUnauthenticated, nil)
	for i := 0; i < len(good); i += 2 {
		less := append(append([]string{}, good[:i]...), good[i+2:]...)
		check(t, signature.Standard{}.Verify(webhook(string(body), less...), secrets(standardOld), at), hub.ErrUnauthenticated, nil)
	}
	for name, err := range map[string]error{
		"a dot in the id": second(signature.SignStandard(secrets(standardOld), "a.b", at, nil)),
		"no secret":       second(signature.SignStandard(nil, "a", at, nil)),
		"a bad secret":    second(signature.SignStandard(secrets("whsec_!"), "a", at, nil)),
	} {
		if !errors.Is(err, hub.ErrInvalid) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func second(_ string, err error) error { return err }

// FuzzVerify throws arbitrary headers and bodies at every scheme: none panics, none accepts what was not signed.
func FuzzVerify(f *testing.F) {
	f.Add("res2v0rG9WLTUGPKhX9GmVk6IK3bJ6+GUsrcHJP7eiQ=", "1718000000", sample, "https://h.example/%3A")
	f.Add("v1,AAAA v1, ,", "-1", "", "")
	f.Add("sha256=00", "9223372036854775807", "\x00", "%zz")
	schemes := []signature.Verifier{
		must(f, signature.HMAC{Headers: []string{"S"}}), must(f, signature.HMAC{Headers: []string{"S"}, Encoding: "hex", Prefix: "sha256="}),
		must(f, signature.HMAC{Headers: []string{"S"}, Signs: "timestamp + bytes", Timestamp: []string{"T"}, TimestampFormat: signature.RFC3339}),
		signature.HubSpot{},
		signature.HubSpot{Version: 2},
		signature.HubSpot{Version: 1},
		signature.Standard{},
		signature.Header("", "S"),
	}
	f.Fuzz(func(t *testing.T, sig, stamp, body, url string) {
		w := webhook(body, "S", sig, "T", stamp, "X-HubSpot-Signature-v3", sig, "X-HubSpot-Signature", sig, "X-HubSpot-Request-Timestamp", stamp,
			"webhook-id", "x", "webhook-timestamp", stamp, "webhook-signature", sig)
		w.URL = url
		for i, v := range schemes {
			secret := "c2VjcmV0LXRoYXQtbm9ib2R5LWtub3dz"
			err := v.Verify(w, secrets(secret), time.Unix(1718000000, 0))
			if err == nil || !errors.Is(err, hub.ErrUnauthenticated) {
				t.Fatalf("scheme %d accepts a forgery: %v", i, err)
			}
			if strings.Contains(err.Error(), secret) {
				t.Fatalf("scheme %d leaks", i)
			}
		}
	})
}

func BenchmarkHMAC(b *testing.B) {
	v := must(b, signature.HMAC{Headers: []string{"S"}})
	w := webhook(strings.Repeat("x", 2048))
	sig, _ := v.Sign(w, hub.NewSecret("s"))
	w.Headers = append(w.Headers, hub.Header{Name: "S", Value: sig})
	all := secrets("s")
	b.ReportAllocs()
	for b.Loop() {
		if err := v.Verify(w, all, time.Time{}); err != nil {
			b.Fatal(err)
		}
	}
}
