package app

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"github.com/stagewire/stagewire/examples"
	"github.com/stagewire/stagewire/internal/hub"
	"github.com/stagewire/stagewire/internal/sandbox"
)

// InitOptions say which example's files Init writes (default: quickstart) and the addresses in them. Empty ones stay as they are.
type InitOptions struct{ Example, Listen, Sandbox, Receiver string }

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
	root, err := exampleFolder(o.Example)
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

// exampleFolder returns the files of an example; "" is the quickstart.
func exampleFolder(name string) (fs.FS, error) {
	if root, ok := examples.Folder(orElse(name, "quickstart")); ok {
		return root, nil
	}
	return nil, fmt.Errorf("there is no example %q; there are %s: %w", name, strings.Join(examples.Names, ", "), hub.ErrInvalid)
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
