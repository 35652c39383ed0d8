package server

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"sync/atomic"
	"time"

	"github.com/gofiber/fiber/v2"
	"github.com/prometheus/client_golang/prometheus"
	"golang.org/x/sync/errgroup"
)

// Limits that keep strangers from holding memory and connections.
const (
	maxBody       = 2 << 20
	headerLimit   = 8 << 10 // all header lines together; more is 431
	readTimeout   = 10 * time.Second
	writeTimeout  = 30 * time.Second
	idleTimeout   = 75 * time.Second // a little over the 60 s after which common proxies close
	maxConnection = 4096
	drainTimeout  = 20 * time.Second
)

// IdleWorkers is how long the goroutine of a closed connection is kept for the next. A server that has ended is held in memory by it as
// long, which matters to a process that runs many, one after the other.
const IdleWorkers = time.Second

// Options are what a Server is made of. Log, Reader, Views, Gate, Logger, Registerer and Gatherer are required.
type Options struct {
	Listen      string // host:port of /hooks, and of everything else unless AdminListen is set
	AdminListen string // host:port of API and metrics; "" for Listen
	BodyLimit   int    // bytes of one body; 0 and more than 2 MiB mean 2 MiB
	Connections int    // open connections; 0 means 4096
	Version     string // of the binary

	Log      Log
	Reader   Reader
	Views    Views
	Replayer Replayer
	// Publisher, Pinner, Refitter and Provisioner may be nil: their routes then answer 501.
	Publisher   Publisher
	Pinner      Pinner
	Refitter    Refitter
	Provisioner Provisioner
	Gate        Gate
	Checks      []Check
	// Redriven is called after deliveries became due again, so that they need not wait for the next poll. May be nil.
	Redriven func()

	Now        func() time.Time // wire time; nil: time.Now
	Logger     *slog.Logger
	Registerer prometheus.Registerer
	Gatherer   prometheus.Gatherer
}

// Server receives webhooks and serves the API. Make one with New, give it connections with Use, then Run it.
type Server struct {
	opts     Options
	log      *slog.Logger
	metrics  *metrics
	rejected *rejections
	setup    atomic.Pointer[setup]
	complain limiter
	patience patience
	draining atomic.Bool

	intake, admin             *fiber.App // the same one unless AdminListen is set
	intakeSocket, adminSocket net.Listener
}

// setup is a Setup with its endpoints by name.
type setup struct {
	Setup
	publicURL string
	endpoints map[string]*endpoint
}

// New returns a server that does not listen yet.
func New(opts Options) *Server {
	if opts.Now == nil {
		opts.Now = time.Now
	}
	if opts.BodyLimit <= 0 || opts.BodyLimit > maxBody {
		opts.BodyLimit = maxBody
	}
	if opts.Connections <= 0 {
		opts.Connections = maxConnection
	}
	s := &Server{opts: opts, log: opts.Logger, metrics: newMetrics(opts.Registerer)}
	s.rejected = newRejections(opts.Reader.SaveRejected, s.metrics.dropped, s.log)
	s.Use(Setup{})
	s.intake = s.fiber()
	s.intake.All(hooks+":connection", s.receive)
	s.admin = s.intake
	if opts.AdminListen != "" {
		s.admin = s.fiber()
		s.health(s.intake) // a load balancer asks where the webhooks go
	}
	s.health(s.admin)
	s.api(s.admin)
	return s
}

// Use replaces the connections and what else a reload changes. Requests under way keep what they began with.
func (s *Server) Use(next Setup) {
	in := &setup{Setup: next, publicURL: next.PublicURL, endpoints: make(map[string]*endpoint, len(next.Connections))}
	for _, c := range next.Connections {
		e := &endpoint{Connected: c, counters: s.metrics.of(c.Connection.Name)}
		if r, ok := c.Receiver.(interface{ TokenHeaders() []string }); ok {
			e.secrets = r.TokenHeaders()
		}
		in.endpoints[c.Connection.Name] = e
	}
	s.setup.Store(in)
}

func (s *Server) fiber() *fiber.App {
	app := fiber.New(fiber.Config{
		BodyLimit: s.opts.BodyLimit, ReadBufferSize: headerLimit, Concurrency: s.opts.Connections,
		ReadTimeout: readTimeout, WriteTimeout: writeTimeout, IdleTimeout: idleTimeout,
		// Copies of parameters and headers instead of views of buffers that the next request overwrites. receive goes past it to
		// fasthttp and copies once, itself. Bodies are streams, so that routes read them with readBody, which spends memory on what has
		// arrived; fasthttp itself would allocate whatever length is declared, for each of thousands of connections.
		Immutable: true, StreamRequestBody: true, DisablePreParseMultipartForm: true, DisableStartupMessage: true, StrictRouting: true, CaseSensitive: true,
		ErrorHandler: func(c *fiber.Ctx, err error) error {
			linger(c.Context())
			return s.sendProblem(c, err)
		},
	})
	app.Server().MaxIdleWorkerDuration = IdleWorkers
	return app
}

// Listen takes the addresses, so that a taken port is an error before anything is started. Run calls it where nobody did.
func (s *Server) Listen() error {
	if s.intakeSocket != nil {
		return nil
	}
	var err error
	if s.intakeSocket, err = net.Listen("tcp", s.opts.Listen); err != nil {
		return fmt.Errorf("listen: %w", err)
	}
	s.adminSocket = s.intakeSocket
	if s.opts.AdminListen != "" {
		if s.adminSocket, err = net.Listen("tcp", s.opts.AdminListen); err != nil {
			_ = s.intakeSocket.Close()
			s.intakeSocket = nil
			return fmt.Errorf("admin_listen: %w", err)
		}
	}
	return nil
}

// Close gives the addresses up where Run was never reached. It may be called after Run.
func (s *Server) Close() {
	for _, socket := range []net.Listener{s.intakeSocket, s.adminSocket} {
		if socket != nil {
			_ = socket.Close() // Run may have closed it
		}
	}
}

// Addr is where webhooks are received, AdminAddr where the API is; nil before Listen.
func (s *Server) Addr() net.Addr { return addr(s.intakeSocket) }

// AdminAddr is where the API is served; nil before Listen.
func (s *Server) AdminAddr() net.Addr { return addr(s.adminSocket) }

func addr(l net.Listener) net.Addr {
	if l == nil {
		return nil
	}
	return l.Addr()
}

// Run serves until ctx ends, then finishes the requests under way (at most 20 s) and writes the refusals that wait.
func (s *Server) Run(ctx context.Context) error {
	if err := s.Listen(); err != nil {
		return err
	}
	writing, stopWriting := context.WithCancel(context.WithoutCancel(ctx))
	written := make(chan error, 1)
	go func() { written <- s.rejected.Run(writing) }()

	g, ctx := errgroup.WithContext(ctx)
	serve := func(app *fiber.App, socket net.Listener) {
		g.Go(func() error {
			if err := app.Listener(socket); err != nil && ctx.Err() == nil {
				return fmt.Errorf("serve %s: %w", socket.Addr(), err)
			}
			return nil
		})
		g.Go(func() error {
			<-ctx.Done()
			s.draining.Store(true)
			err := app.ShutdownWithTimeout(drainTimeout)
			_ = socket.Close() // where serving was about to begin, Shutdown did not know of it yet
			if err != nil {
				return fmt.Errorf("requests were still under way after %s: %w", drainTimeout, err)
			}
			return nil
		})
	}
	serve(s.intake, s.intakeSocket)
	if s.admin != s.intake {
		serve(s.admin, s.adminSocket)
	}
	err := g.Wait()
	stopWriting()
	return errors.Join(err, <-written)
}

// limiter lets one thing through a second.
type limiter struct{ last atomic.Int64 }

func (l *limiter) allow(now time.Time) bool {
	last := l.last.Load()
	return now.UnixNano()-last >= int64(time.Second) && l.last.CompareAndSwap(last, now.UnixNano())
}
