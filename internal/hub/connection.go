package hub

// Secret is a value that never prints itself. Reveal it only where it is used.
type Secret struct{ value string }

// NewSecret wraps value.
func NewSecret(value string) Secret { return Secret{value} }

// Reveal returns the secret itself.
func (s Secret) Reveal() string { return s.value }

// IsZero reports whether no secret is set.
func (s Secret) IsZero() bool { return s.value == "" }

// String, GoString, MarshalText and LogValue-free formatting all give "[secret]".
func (Secret) String() string { return "[secret]" }

// GoString keeps %#v from printing the value.
func (Secret) GoString() string { return "hub.Secret([secret])" }

// MarshalText keeps encoders from writing the value.
func (Secret) MarshalText() ([]byte, error) { return []byte("[secret]"), nil }

// Connection is one configured account of one connector. It is immutable: a reload makes new ones.
type Connection struct {
	Name      string
	Connector string
	Mode      string              // "webhook" (default) or "poll"
	Settings  map[string]string   // what is not secret: shop, subdomain, region, app_id
	Secrets   map[string][]Secret // several while one is being rotated, newest first
	BaseURL   string              // overrides where outbound calls go
	// AllowPrivate lets outbound calls reach private and loopback addresses.
	AllowPrivate bool
}

// Secret returns the newest secret of that name, or the zero Secret.
func (c *Connection) Secret(name string) Secret {
	if all := c.Secrets[name]; len(all) > 0 {
		return all[0]
	}
	return Secret{}
}
