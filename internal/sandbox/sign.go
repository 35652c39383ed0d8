package sandbox

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"strings"
)

func hmac256(key string, parts ...string) []byte {
	mac := hmac.New(sha256.New, []byte(key))
	for _, p := range parts {
		_, _ = mac.Write([]byte(p))
	}
	return mac.Sum(nil)
}

// signShopify signs the body alone; base64. Source: shopify.dev, "Verify webhook deliveries".
func signShopify(secret string, body []byte) string {
	return base64.StdEncoding.EncodeToString(hmac256(secret, string(body)))
}

// signZendesk signs the time stamp's text and the body with nothing between; base64. Source: developer.zendesk.com, "Verifying webhooks".
func signZendesk(secret, timestamp string, body []byte) string {
	return base64.StdEncoding.EncodeToString(hmac256(secret, timestamp, string(body)))
}

// signHubSpotV1 is SHA-256, not an HMAC, of secret and body; hex.
func signHubSpotV1(secret string, body []byte) string {
	sum := sha256.Sum256(append([]byte(secret), body...))
	return hex.EncodeToString(sum[:])
}

// hubSpotEscapes are the only escapes that HubSpot decodes in the URL before it signs (version 3).
var hubSpotEscapes = strings.NewReplacer("%3A", ":", "%2F", "/", "%3F", "?", "%40", "@", "%21", "!", "%24", "$", "%27", "'", "%28", "(",
	"%29", ")", "%2A", "*", "%2C", ",", "%3B", ";")

// signHubSpotV3 signs method, absolute URL, body and time stamp in milliseconds; base64. Source: developers.hubspot.com, "Request validation".
func signHubSpotV3(secret, method, url string, body []byte, timestamp string) string {
	return base64.StdEncoding.EncodeToString(hmac256(secret, method, hubSpotEscapes.Replace(url), string(body), timestamp))
}
