package config

import (
	"path/filepath"
	"time"

	"github.com/stagewire/stagewire/internal/hub"
)

// Config is one installation's settings. It is immutable once loaded; a reload makes a new one.
type Config struct {
	File string // absolute path of the file it came from; relative paths in it count from its folder

	Listen      string // host:port of /hooks, and of everything else unless AdminListen is set
	AdminListen string // host:port of API and metrics; "" for Listen
	PublicURL   string // how vendors reach Listen, without a slash at the end; signatures over the URL use it
	DataDir     string // absolute
	NATS        NATS
	Database    Database
	API         API

	Models        []ModelUse
	Reactions     []string // absolute paths of files and folders
	Connections   map[string]*hub.Connection
	Subscriptions []Subscription
	Write         []Write
	Kinds         []hub.Kind
	Fields        []Field
	Zone          string                  // of clocks in rules: an IANA name, or "customer"; "" for UTC
	Calendars     map[string]hub.Calendar // by name

	Retention     Retention
	MinFreeDisk   Size
	Hold          time.Duration // how long waiting for an outside system may hold wake-ups back
	Settle        time.Duration // after which an intake gap counts as closed where nothing can fill it
	Scores        Scores
	Limits        Limits
	ConnectorsDir string // absolute; overlays the embedded connectors; "" for none
	Log           Log

	places map[string]Place
}

// NATS says where the log is.
type NATS struct {
	URL      hub.Secret // zero: embedded. A secret because it may hold a password.
	Replicas int        // of the streams on an external cluster
}

// Database says where the state is.
type Database struct {
	URL hub.Secret // zero: SQLite in DataDir; else postgres://…
}

// API is who may use it.
type API struct {
	Token hub.Secret // the fixed admin token; zero: the one in DataDir/token
}

// ModelUse is one entry of models.
type ModelUse struct {
	Use    string            // a shipped model's name, or the absolute path of a file or folder
	Path   bool              // Use is a path
	Of     hub.SubjectKind   // whose stage it is; "": as the model says
	Params map[string]string // as written: "60d", "5", "true"
}

// Subscription is a third party that is called back.
type Subscription struct {
	Name         string
	URL          string
	Secrets      []hub.Secret // newest first; each signs
	Kinds        []string     // kinds or groups; none means every stage.entered
	Models       []string     // of stage.entered; none means all
	Include      []string     // personal data the receiver asked for: ids.<connection>, email, email_sha256, …
	Ordered      bool
	Payload      string // thin or fat
	AllowPrivate bool
}

// Write keeps a system's field or tag equal to a customer's stage.
type Write struct {
	Connection string
	Path       string // its place in the file, for Config.Problem
	Model      string
	Field      string            // exactly one of Field and Tag is set
	Tag        string            // e.g. stage:${stage}
	Mode       string            // always, if_empty, if_ours, never
	Values     map[string]string // by stage; none: the stage's own name
	Missing    string            // skip or create
	PinByHand  time.Duration     // a stage set by hand there pins the customer for that long; 0: it does not
}

// Field is a typed field of customers, filled from a trait of one connection.
type Field struct {
	Name       string
	Type       hub.PropertyType
	Connection string // from
	Trait      string
}

// Retention is how long what is processed stays.
type Retention struct {
	Webhooks, Events, Attempts, Rejected, Feed time.Duration
	// Kinds overrides, by kind or group, how long events stay in SQL; 0 keeps them for ever.
	Kinds map[string]time.Duration
}

// Scores says how scores are kept.
type Scores struct {
	Refit time.Duration // how often they are fitted to the hub's own orders anew
}

// Limits bound what strangers can make the hub do.
type Limits struct {
	Body        int64 // bytes of one webhook
	Connections int   // open HTTP connections
}

// Log is how the hub tells about itself.
type Log struct {
	Level  string // debug, info, warn, error
	Format string // text or json
}

// Size is an amount of disk: bytes, or a share of the whole. The larger of both counts.
type Size struct {
	Bytes int64
	Share float64 // 0 to 1
}

// Of returns the bytes that s stands for on a disk of total bytes.
func (s Size) Of(total int64) int64 { return max(s.Bytes, int64(s.Share*float64(total))) }

// Defaults that others refer to.
const (
	DefaultListen = "127.0.0.1:8080"
	// MaxBody is the largest webhook body ever accepted (DESIGN 2, frames).
	MaxBody = 2 << 20

	day = 24 * time.Hour
)

// Default returns the settings of an empty file.
func Default() *Config {
	return &Config{
		Listen:      DefaultListen,
		DataDir:     "data",
		NATS:        NATS{Replicas: 1},
		Connections: map[string]*hub.Connection{},
		Retention: Retention{
			Webhooks: 30 * day, Events: 7 * day, Attempts: 30 * day, Rejected: 30 * day, Feed: 30 * day,
			Kinds: map[string]time.Duration{hub.GroupAttention: 400 * day},
		},
		MinFreeDisk: Size{Bytes: 1 << 30, Share: 0.05},
		Hold:        time.Hour,
		Settle:      15 * time.Minute,
		Scores:      Scores{Refit: day},
		Limits:      Limits{Body: MaxBody, Connections: 4096},
		Log:         Log{Level: "info", Format: "text"},
		places:      map[string]Place{},
	}
}

// Place is where something stands in the file.
type Place struct{ Line, Column int }

// At returns where path (such as "write.crm.values.lost" or "models[1].params") stands, or the nearest thing above it.
func (c *Config) At(path string) Place {
	for {
		if p, ok := c.places[path]; ok {
			return p
		}
		cut := -1
		for i := len(path) - 1; i >= 0; i-- {
			if path[i] == '.' || path[i] == '[' {
				cut = i
				break
			}
		}
		if cut < 0 {
			return c.places[""]
		}
		path = path[:cut]
	}
}

// Problem makes a Problem that points at path.
func (c *Config) Problem(path, message, suggestion string) Problem {
	at := c.At(path)
	return Problem{File: c.File, Line: at.Line, Column: at.Column, Path: path, Message: message, Suggestion: suggestion}
}

// resolve makes path absolute, counted from the file's folder.
func (c *Config) resolve(path string) string {
	if path == "" || filepath.IsAbs(path) {
		return path
	}
	return filepath.Join(filepath.Dir(c.File), path)
}
