package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"os"
	"strings"
	"syscall"
	"time"

	"github.com/go-json-experiment/json"
	"github.com/go-json-experiment/json/jsontext"

	"github.com/stagewire/stagewire/internal/access"
	"github.com/stagewire/stagewire/internal/config"
	"github.com/stagewire/stagewire/internal/hub"
	"github.com/stagewire/stagewire/internal/server"
)

// api is the running hub, seen from the command line.
type api struct {
	base  string
	token hub.Secret
	http  *http.Client
}

// maxAnswer bounds what is read of one answer: a page of 200 with everything in it is far smaller.
const maxAnswer = 64 << 20

// api finds the hub and the token: flags first, then the environment, then the configuration.
func (g *globals) api() (*api, error) {
	a := &api{base: firstOf(g.server, os.Getenv("STAGEWIRE_SERVER")), http: &http.Client{Timeout: 30 * time.Second}}
	// A configuration with mistakes still says where its hub listens; `check` is there for the mistakes.
	cfg, _, _ := config.Load(g.config, config.Lookups{})
	explicit := a.base != ""
	if !explicit {
		a.base = "http://" + reachable(firstOf(cfg.AdminListen, cfg.Listen))
	}
	if !strings.Contains(a.base, "://") {
		a.base = "http://" + a.base
	}
	u, err := url.Parse(a.base)
	if err != nil || u.Host == "" || u.Scheme != "http" && u.Scheme != "https" {
		return nil, usageError{fmt.Errorf("server %q is not an address such as http://127.0.0.1:8080", a.base)}
	}
	a.base = strings.TrimRight(a.base, "/")
	switch token := firstOf(g.token, os.Getenv("STAGEWIRE_TOKEN")); {
	case token != "":
		a.token = hub.NewSecret(token)
	case explicit && !loopback(u.Hostname()): // this installation's token is nobody else's business
	case !cfg.API.Token.IsZero():
		a.token = cfg.API.Token
	default:
		if a.token, err = access.ReadToken(cfg.DataDir); err != nil && !errors.Is(err, hub.ErrNotFound) {
			return nil, err
		}
	}
	return a, nil
}

func firstOf(texts ...string) string {
	for _, t := range texts {
		if t != "" {
			return t
		}
	}
	return ""
}

// reachable is where a hub that listens on all addresses can be called from the same machine.
func reachable(listen string) string {
	host, port, err := net.SplitHostPort(listen)
	if err != nil {
		return listen
	}
	if ip := net.ParseIP(host); host == "" || ip != nil && ip.IsUnspecified() {
		host = "127.0.0.1"
	}
	return net.JoinHostPort(host, port)
}

func loopback(host string) bool {
	ip := net.ParseIP(host)
	return host == "localhost" || ip != nil && ip.IsLoopback()
}

// errNoHub says that nothing answers where the hub should be.
var errNoHub = errors.New("no hub answers")

// do sends one request below /api/v1 and returns the answer's JSON.
func (a *api) do(ctx context.Context, method, path string, query url.Values, body any) (jsontext.Value, error) {
	target := a.base + "/api/v1" + path
	if len(query) > 0 {
		target += "?" + query.Encode()
	}
	var reader io.Reader
	if body != nil {
		raw, err := json.Marshal(body)
		if err != nil {
			return nil, err
		}
		reader = bytes.NewReader(raw)
	}
	req, err := http.NewRequestWithContext(ctx, method, target, reader)
	if err != nil {
		return nil, err
	}
	if !a.token.IsZero() {
		req.Header.Set("Authorization", "Bearer "+a.token.Reveal())
	}
	if body != nil {
		req.Header.Set("Content-Type", "application/json")
	}
	resp, err := a.http.Do(req)
	if err != nil {
		if errors.Is(err, syscall.ECONNREFUSED) {
			return nil, fmt.Errorf("%w at %s: is `stagewire serve` running? --server says where else to ask", errNoHub, a.base)
		}
		return nil, err
	}
	defer func() { _ = resp.Body.Close() }() // read to the end or not, nothing is written
	raw, err := io.ReadAll(io.LimitReader(resp.Body, maxAnswer))
	if err != nil {
		return nil, fmt.Errorf("%s: %w", a.base, err)
	}
	if resp.StatusCode/100 == 2 {
		return raw, nil
	}
	var problem server.Problem
	if err := json.Unmarshal(raw, &problem); err != nil || problem.Status == 0 {
		return nil, fmt.Errorf("%s answers %s: it does not seem to be a hub", a.base, resp.Status)
	}
	if problem.Status == http.StatusUnauthorized && a.token.IsZero() {
		return nil, errors.New("the hub wants a token: give --token, or set STAGEWIRE_TOKEN")
	}
	if len(problem.Errors) > 0 {
		return nil, refusedFiles(problem.Errors)
	}
	return nil, fmt.Errorf("the hub answers %d: %s", problem.Status, problem.Detail)
}

// refusedFiles are mistakes that the hub found in files, as check finds them.
func refusedFiles(mistakes []server.Mistake) error {
	errs := make([]error, 0, len(mistakes))
	for _, m := range mistakes {
		errs = append(errs, config.Problem(m))
	}
	return errors.Join(errs...)
}

// ask sends one request and decodes the answer.
func ask[T any](ctx context.Context, a *api, method, path string, query url.Values, body any) (T, jsontext.Value, error) {
	var to T
	raw, err := a.do(ctx, method, path, query, body)
	if err != nil {
		return to, nil, err
	}
	if err := json.Unmarshal(raw, &to); err != nil {
		return to, nil, fmt.Errorf("%s%s: %w", a.base, path, err)
	}
	return to, raw, nil
}
