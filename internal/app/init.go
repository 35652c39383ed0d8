package app

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"github.com/stagewire/stagewire/examples"
	"github.com/stagewire/stagewire/internal/sandbox"
)

// InitOptions are the addresses in the files that Init writes. Empty ones stay as they are in the example.
type InitOptions struct{ Listen, Sandbox, Receiver string }

// Addresses that stand in the example.
const (
	exampleListen   = "127.0.0.1:8080"
	exampleSandbox  = "127.0.0.1:9090"
	exampleReceiver = "127.0.0.1:9091"
)

// Init writes what a real installation starts from into dir: stagewire.yaml, a folder of reactions, and secrets, each in a file of
// its own that only the owner can read. The secrets are the sandbox's: put the vendors' own in their place. It never
// overwrites a stagewire.yaml, and returns the path of the one it wrote.
func Init(dir string, o InitOptions) (string, error) {
	path := filepath.Join(dir, "stagewire.yaml")
	if _, err := os.Stat(path); err == nil {
		return "", fmt.Errorf("%s is there already: choose another folder, or remove it", path)
	} else if !errors.Is(err, fs.ErrNotExist) {
		return "", err
	}
	replace := strings.NewReplacer(
		exampleListen, orElse(o.Listen, exampleListen), exampleSandbox, orElse(o.Sandbox, exampleSandbox), exampleReceiver, orElse(o.Receiver, exampleReceiver),
	)
	root, err := fs.Sub(examples.Quickstart, "quickstart")
	if err != nil {
		return "", err
	}
	err = fs.WalkDir(root, ".", func(name string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		to := filepath.Join(dir, filepath.FromSlash(name))
		if d.IsDir() {
			return os.MkdirAll(to, 0o755)
		}
		if name == "README.md" { // about the example, not about the installation
			return nil
		}
		text, err := fs.ReadFile(root, name)
		if err != nil {
			return err
		}
		return os.WriteFile(to, []byte(replace.Replace(string(text))), 0o644)
	})
	if err != nil {
		return "", err
	}
	if err := os.MkdirAll(filepath.Join(dir, "secrets"), 0o700); err != nil {
		return "", err
	}
	for name, value := range exampleSecrets() {
		if err := os.WriteFile(filepath.Join(dir, "secrets", name), []byte(value), 0o600); err != nil {
			return "", err
		}
	}
	return path, nil
}

// exampleReceiverSecret signs the example's callbacks; it is as public as the sandbox's secrets.
const exampleReceiverSecret = "whsec_c3RhZ2V3aXJlLXF1aWNrc3RhcnQtY2FsbGJhY2tz"

// exampleSecrets are the sandbox's secrets by the names of their files.
func exampleSecrets() map[string]string {
	a := sandbox.DefaultAccounts()
	return map[string]string{
		"shop":         a[sandbox.Shopify]["client_secret"],
		"desk":         a[sandbox.Zendesk]["client_secret"],
		"desk-webhook": a[sandbox.Zendesk]["webhook_secret"],
		"crm":          a[sandbox.HubSpot]["client_secret"],
		"crm-refresh":  a[sandbox.HubSpot]["refresh_token"],
		"zoho":         a[sandbox.Zoho]["client_secret"],
		"zoho-refresh": a[sandbox.Zoho]["refresh_token"],
		"zoho-notify":  a[sandbox.Zoho]["token"],
		"erp":          exampleReceiverSecret,
	}
}

func orElse(s, other string) string {
	if s == "" {
		return other
	}
	return s
}
