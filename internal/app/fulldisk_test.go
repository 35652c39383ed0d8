//go:build linux

package app

import (
	"errors"
	"fmt"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/stagewire/stagewire/internal/config"
	"github.com/stagewire/stagewire/internal/hub"
	"github.com/stagewire/stagewire/internal/server"
)

const fullDiskDir = "STAGEWIRE_TEST_FULL_DISK"

// TestFullDisk fills a small disk of its own, in a user namespace, under a running hub: vendors are told to come again and readyz is
// red while it is full; once there is room the same process takes webhooks again, and what it had taken was never lost.
func TestFullDisk(t *testing.T) {
	if dir := os.Getenv(fullDiskDir); dir != "" {
		fullDisk(t, dir)
		return
	}
	t.Parallel()
	unshare, err := exec.LookPath("unshare")
	if err != nil {
		t.Skip("no unshare here: a small disk cannot be made")
	}
	dir := t.TempDir()
	if out, err := exec.CommandContext(t.Context(), unshare, "-rm", "mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", dir).CombinedOutput(); err != nil {
		t.Skipf("no user namespaces here: a small disk cannot be made: %v %s", err, out)
	}
	for name, minFree := range map[string]string{"guarded by min_free_disk": "8388608", "into the wall": "1"} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			script := `mount -t tmpfs -o size=48m tmpfs "$0" && exec "$@"`
			cmd := exec.CommandContext(t.Context(), unshare, "-rm", "sh", "-c", script, dir, os.Args[0], "-test.run=^TestFullDisk$", "-test.v")
			cmd.Env = append(os.Environ(), fullDiskDir+"="+dir, "STAGEWIRE_TEST_MIN_FREE="+minFree)
			if out, err := cmd.CombinedOutput(); err != nil {
				t.Errorf("%v\n%s", err, out)
			}
		})
	}
}

func fullDisk(t *testing.T, dir string) {
	var free int64
	if _, err := fmt.Sscan(os.Getenv("STAGEWIRE_TEST_MIN_FREE"), &free); err != nil {
		t.Fatal(err)
	}
	s := newSite(t)
	s.configure(t, "data_dir: "+dir+"\n")
	r := s.start(t, func(o *Options) { o.Config.MinFreeDisk = config.Size{Bytes: free} })
	r.stillWorks(t, "before@example.com")

	var taken []string
	n, size := 0, 1<<20
	post := func() int {
		n++
		id := fmt.Sprint(1000 + n)
		status, header, text, err := r.try(shopify("orders/paid", "e"+id, paid(id, fmt.Sprintf(`"customer": {"id": %s}, "email": "c%s@example.com", "note": %q`, id, id, strings.Repeat("n", size)))))
		if err != nil {
			t.Fatal(err)
		}
		switch status {
		case http.StatusOK:
			taken = append(taken, id)
		case http.StatusServiceUnavailable:
			if header.Get("Retry-After") == "" {
				t.Errorf("503 without Retry-After: %s", text)
			}
		default:
			t.Fatalf("answered %d %s", status, text)
		}
		return status
	}
	if post() != http.StatusOK {
		t.Fatal("the empty disk is full")
	}
	ballast := filepath.Join(dir, "ballast")
	fill(t, ballast)
	if free == 1 { // leave less than one webhook needs, so that it is JetStream that runs into the wall and not our guard
		info, err := os.Stat(ballast)
		if err != nil {
			t.Fatal(err)
		}
		if err := os.Truncate(ballast, info.Size()-300<<10); err != nil {
			t.Fatal(err)
		}
	}
	eventually(t, "webhooks are turned away", func() bool { return post() == http.StatusServiceUnavailable })
	eventually(t, "readyz is red", func() bool {
		status, said := readiness(t, r)
		return status == http.StatusServiceUnavailable && !said.OK && said.Checks["nats"] != "ok"
	})
	began := time.Now() // for some time nothing of it works, and whoever reads still gets answers
	for time.Since(began) < 3*time.Second {
		if status := post(); status == http.StatusOK {
			break // the guard may have let go of a little room
		}
		get[server.List[server.Customer]](t, r, "GET", "/customers", nil)
	}
	if status, _ := readiness(t, r); status != http.StatusServiceUnavailable {
		t.Errorf("readyz answers %d on a full disk", status)
	}
	if err := os.Remove(ballast); err != nil {
		t.Fatal(err)
	}
	eventually(t, "webhooks are taken again", func() bool { return post() == http.StatusOK })
	eventually(t, "readyz is green", func() bool { status, said := readiness(t, r); return status == http.StatusOK && said.OK })
	for _, id := range taken {
		eventually(t, "order "+id+" is an event", func() bool {
			customers, _, err := r.store.Customers(t.Context(), hub.CustomerQuery{Page: hub.Page{Limit: 10}, Email: "c" + id + "@example.com"})
			return err == nil && len(customers) == 1
		})
	}
	r.stillWorks(t, "after@example.com")
	// What was turned away may be sent again much later: nobody counts as silent meanwhile.
	eventually(t, "the intake gap is open, though the disk was too full to say so at the time", func() bool {
		gaps, err := r.store.OpenGaps(t.Context())
		return err == nil && !gaps["shop"].IsZero()
	})
	if restarted := strings.Contains(r.log.String(), "embedded NATS is back"); free == 1 && !restarted {
		t.Error("JetStream never ran into the full disk")
	}
	t.Logf("%d webhooks were taken, %d turned away", len(taken), n-len(taken))
}

func readiness(t *testing.T, r *running) (int, server.Readiness) {
	t.Helper()
	status, _, text, err := r.try(request{method: "GET", path: "/readyz"})
	if err != nil {
		t.Fatal(err)
	}
	return status, decoded[server.Readiness](t, text)
}

// fill writes to path until the disk is full.
func fill(t *testing.T, path string) {
	t.Helper()
	f, err := os.Create(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	for size := 1 << 20; size > 0; size /= 2 {
		for err == nil {
			_, err = f.Write(make([]byte, size))
		}
		if !errors.Is(err, syscall.ENOSPC) {
			t.Fatal(err)
		}
		err = nil
	}
}
