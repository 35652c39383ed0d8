package bus

import (
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"net"
	"path/filepath"
	"sync"
	"time"

	"github.com/nats-io/nats-server/v2/server"

	"github.com/stagewire/stagewire/internal/hub"
)

const (
	maxPayload  = 8 << 20
	startWithin = 60 * time.Second // recovering a large store takes a while
)

// embedded is the NATS server in this process. It never listens on a socket. It is the door for connections: after a
// restart in place they find the new server behind it.
type embedded struct {
	dir     string
	minFree int64
	log     *slog.Logger

	mu     sync.Mutex
	server *server.Server // nil while it is being restarted, and after stop
}

func startEmbedded(dir string, minFree int64, log *slog.Logger) (*embedded, error) {
	e := &embedded{dir: dir, minFree: minFree, log: log}
	e.mu.Lock()
	defer e.mu.Unlock()
	return e, e.start()
}

func (e *embedded) start() error {
	store, err := e.storeLimit()
	if err != nil {
		return fmt.Errorf("embedded NATS: %w", err)
	}
	s, err := server.NewServer(&server.Options{
		ServerName: "stagewire", DontListen: true, NoSigs: true,
		JetStream: true, StoreDir: e.dir, SyncAlways: true, JetStreamMaxStore: store, JetStreamMaxMemory: 256 << 20,
		MaxPayload: maxPayload, DisableJetStreamBanner: true,
	})
	if err != nil {
		return fmt.Errorf("embedded NATS: %w", err)
	}
	s.SetLoggerV2(serverLog{e.log.With("part", "nats")}, false, false, false)
	s.Start()
	if !s.ReadyForConnections(startWithin) {
		s.Shutdown()
		s.WaitForShutdown()
		return fmt.Errorf("embedded NATS was not ready after %v: %w", startWithin, hub.ErrTransient)
	}
	if !s.JetStreamEnabled() {
		s.Shutdown()
		s.WaitForShutdown()
		return fmt.Errorf("embedded NATS: JetStream could not open %s: see the log: %w", e.dir, hub.ErrTransient)
	}
	e.server = s
	return nil
}

// storeLimit is what the streams may hold: what they hold now and what may still be taken of the disk.
func (e *embedded) storeLimit() (int64, error) {
	disk, err := statDisk(e.dir)
	if err != nil {
		return 0, err
	}
	var used int64
	err = filepath.WalkDir(e.dir, func(_ string, entry fs.DirEntry, err error) error {
		if err != nil || entry.IsDir() {
			return nil // files come and go; the limit is a guard, not an account
		}
		if info, err := entry.Info(); err == nil {
			used += info.Size()
		}
		return nil
	})
	return max(used+disk.free-e.minFree, 64<<20), err
}

// InProcessConn implements nats.InProcessConnProvider.
func (e *embedded) InProcessConn() (net.Conn, error) {
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.server == nil {
		return nil, errors.New("embedded NATS is being restarted")
	}
	return e.server.InProcessConn()
}

// jetStream reports whether the server's JetStream is up. After a full disk it is not, for ever.
func (e *embedded) jetStream() bool {
	e.mu.Lock()
	defer e.mu.Unlock()
	return e.server != nil && e.server.JetStreamEnabled()
}

// restart stops the server and starts another one on the same store.
func (e *embedded) restart() error {
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.server != nil {
		e.server.Shutdown()
		e.server.WaitForShutdown()
		e.server = nil
	}
	return e.start()
}

func (e *embedded) stop() {
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.server != nil {
		e.server.Shutdown()
		e.server.WaitForShutdown()
		e.server = nil
	}
}

// serverLog hands the server's log on. What it calls notices is of no interest to an operator of the hub.
type serverLog struct{ log *slog.Logger }

func (l serverLog) Noticef(format string, v ...any) {
	l.log.Debug("nats", "text", fmt.Sprintf(format, v...))
}

func (l serverLog) Debugf(format string, v ...any) {
	l.log.Debug("nats", "text", fmt.Sprintf(format, v...))
}

func (l serverLog) Tracef(format string, v ...any) {
	l.log.Debug("nats", "text", fmt.Sprintf(format, v...))
}

func (l serverLog) Warnf(format string, v ...any) {
	l.log.Warn("nats", "text", fmt.Sprintf(format, v...))
}

func (l serverLog) Errorf(format string, v ...any) {
	l.log.Error("nats", "text", fmt.Sprintf(format, v...))
}

func (l serverLog) Fatalf(format string, v ...any) {
	l.log.Error("nats", "text", fmt.Sprintf(format, v...))
}
