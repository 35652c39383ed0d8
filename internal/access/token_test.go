package access

import (
	"bytes"
	"errors"
	"os"
	"path/filepath"
	"testing"

	"github.com/stagewire/stagewire/internal/hub"
	"golang.org/x/sync/errgroup"
)

func TestAuthorize(t *testing.T) {
	tokens := NewTokens(hub.NewSecret("right"))
	for token, want := range map[string]bool{"right": true, "righ": false, "right ": false, "": false, "wrong": false} {
		if known, allowed := tokens.Authorize(token, string(Operator)); known != want || allowed != want {
			t.Errorf("%q: known %v, allowed %v, want %v", token, known, allowed, want)
		}
	}
	if _, allowed := tokens.Authorize("right", "emperor"); allowed {
		t.Error("a role that does not exist is allowed")
	}
	tokens.Set(hub.NewSecret("new"))
	if known, _ := tokens.Authorize("right", string(Viewer)); known {
		t.Error("the old token still works")
	}
	if known, _ := NewTokens(hub.Secret{}).Authorize("", string(Subscriber)); known {
		t.Error("no token set lets everybody in")
	}
}

func TestRoles(t *testing.T) {
	if Viewer.Allows(Operator) || !Author.Allows(Viewer) || !Admin.Allows(Admin) || Role("x").Allows(Subscriber) {
		t.Error("the order of roles is wrong")
	}
}

func TestFilesAreMadeOnceAndPrivate(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "data")
	if _, err := ReadToken(dir); !errors.Is(err, hub.ErrNotFound) {
		t.Errorf("before the first start: %v", err)
	}
	token, created, err := LoadToken(dir)
	if err != nil || !created || len(token.Reveal()) != 4+43 {
		t.Fatalf("token %q, created %v, err %v", token.Reveal(), created, err)
	}
	again, created, err := LoadToken(dir)
	if err != nil || created || again != token {
		t.Errorf("the second start has another token, created %v, err %v", created, err)
	}
	if read, err := ReadToken(dir); err != nil || read != token {
		t.Errorf("ReadToken: %v", err)
	}
	key, err := LoadKey(dir)
	if err != nil || len(key) != 32 || bytes.Equal(key, make([]byte, 32)) {
		t.Fatalf("key %x, err %v", key, err)
	}
	for _, name := range []string{TokenFile, KeyFile} {
		info, err := os.Stat(filepath.Join(dir, name))
		if err != nil || info.Mode().Perm() != 0o600 {
			t.Errorf("%s: %v, %v", name, info.Mode(), err)
		}
	}
	if entries, _ := os.ReadDir(dir); len(entries) != 2 {
		t.Errorf("left behind: %v", entries)
	}
}

func TestConcurrentFirstStartsAgree(t *testing.T) {
	dir := t.TempDir()
	keys := make([][]byte, 8)
	var g errgroup.Group
	for i := range keys {
		g.Go(func() (err error) { keys[i], err = LoadKey(dir); return err })
	}
	if err := g.Wait(); err != nil {
		t.Fatal(err)
	}
	for _, key := range keys {
		if !bytes.Equal(key, keys[0]) {
			t.Fatal("two keys were made")
		}
	}
}

func TestBrokenFilesAreRefused(t *testing.T) {
	dir := t.TempDir()
	for name, text := range map[string]string{TokenFile: "\n", KeyFile: "abc"} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	if _, _, err := LoadToken(dir); !errors.Is(err, hub.ErrInvalid) {
		t.Errorf("empty token: %v", err)
	}
	if _, err := LoadKey(dir); !errors.Is(err, hub.ErrInvalid) {
		t.Errorf("short key: %v", err)
	}
}
