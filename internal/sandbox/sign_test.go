package sandbox

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/go-json-experiment/json"
)

// The worked examples of the vendors' documentation and fact sheets.
func TestSignaturesOfWorkedExamples(t *testing.T) {
	body := []byte(`{"id":1001,"email":"ada@example.com"}`)
	creation, err := os.ReadFile("testdata/hubspot/contact.creation.json")
	if err != nil {
		t.Fatal(err)
	}
	const hubURL = "https://hub.example.com/in/hubspot/7d1f"
	for name, pair := range map[string][2]string{
		"shopify":    {signShopify("test-secret-shopify", body), "res2v0rG9WLTUGPKhX9GmVk6IK3bJ6+GUsrcHJP7eiQ="},
		"zendesk":    {signZendesk("test-secret-zendesk", "2026-03-02T09:30:00Z", body), "bjQsDPOK7hIaEmUdCNk4bU83YN7vtgYepO0Tee46VS4="},
		"hubspot v1": {signHubSpotV1("test-secret-hubspot", creation), "959dc7be117374e728517830fa4394b683dbb1bb4f2bb09555b925ae60bc9870"},
		"hubspot v3": {signHubSpotV3("test-secret-hubspot", "POST", hubURL, creation, "1795363200000"), "nPJoWZ98HXRklpRVqH0ni70xD7B9DuguLauI+TbOy/A="},
	} {
		if pair[0] != pair[1] {
			t.Errorf("%s: got %s, want %s", name, pair[0], pair[1])
		}
	}
}

// Every sample body, signed by us, has the signature its header file says.
func TestSignaturesOfSamples(t *testing.T) {
	checked := 0
	for _, vendor := range []string{Shopify, Zendesk, HubSpot} {
		files, err := filepath.Glob("testdata/" + vendor + "/*.headers.json")
		if err != nil {
			t.Fatal(err)
		}
		for _, file := range files {
			var header map[string]string
			raw, err := os.ReadFile(file)
			if err != nil {
				t.Fatal(err)
			}
			if err := json.Unmarshal(raw, &header); err != nil {
				t.Fatal(err)
			}
			body, err := os.ReadFile(strings.TrimSuffix(file, ".headers.json") + ".json")
			if err != nil {
				t.Fatal(err)
			}
			var got, want string
			switch vendor {
			case Shopify:
				got, want = signShopify("test-secret-shopify", body), header["X-Shopify-Hmac-Sha256"]
			case Zendesk:
				got, want = signZendesk("test-secret-zendesk", header["X-Zendesk-Webhook-Signature-Timestamp"], body), header["X-Zendesk-Webhook-Signature"]
			case HubSpot:
				if header["X-HubSpot-Signature-Version"] != "v1" {
					continue // workflow webhooks sign version 2, which the sandbox does not send
				}
				at := header["X-HubSpot-Request-Timestamp"]
				got, want = signHubSpotV1("test-secret-hubspot", body)+" "+signHubSpotV3("test-secret-hubspot", "POST", "https://hub.example.com/in/hubspot/7d1f", body, at),
					header["X-HubSpot-Signature"]+" "+header["X-HubSpot-Signature-v3"]
			}
			if got != want {
				t.Errorf("%s: got %s, want %s", file, got, want)
			}
			checked++
		}
	}
	if checked < 30 {
		t.Fatalf("only %d samples checked", checked)
	}
}

// Only the escapes that HubSpot lists are decoded before signing.
func TestHubSpotDecodesOnlyItsEscapes(t *testing.T) {
	a := signHubSpotV3("s", "POST", "https://h/a%2Fb%20c?x=%40", nil, "1")
	b := signHubSpotV3("s", "POST", "https://h/a/b%20c?x=@", nil, "1")
	c := signHubSpotV3("s", "POST", "https://h/a/b c?x=@", nil, "1")
	if a != b || b == c {
		t.Errorf("%s %s %s", a, b, c)
	}
}
