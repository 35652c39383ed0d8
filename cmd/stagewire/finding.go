package main

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"

	"github.com/stagewire/stagewire/internal/config"
	"github.com/stagewire/stagewire/internal/connector"
	"github.com/stagewire/stagewire/internal/lifecycle"
	"github.com/stagewire/stagewire/internal/score"
	"github.com/stagewire/stagewire/internal/server"
)

// finding is one mistake in what a person wrote, whichever part of the hub found it.
type finding struct {
	server.Mistake
	check   string // the linter's name for it, "" for a mistake
	excerpt string // the line with a caret below the place; "" where the file is not at hand
}

// findings takes an error of several parts apart, in order and each place once. What is no mistake in a file has a message alone.
func findings(err error) []finding {
	var out []finding
	seen := map[server.Mistake]bool{}
	add := func(f finding) {
		place := f.Mistake
		place.Suggestion = ""
		if !seen[place] {
			seen[place] = true
			out = append(out, f)
		}
	}
	var walk func(err error)
	walk = func(err error) {
		if many, ok := err.(interface{ Unwrap() []error }); ok { //nolint:errorlint // the walk itself: errors.As would stop at the first
			for _, e := range many.Unwrap() {
				walk(e)
			}
			return
		}
		var (
			ofConfig    config.Problem
			ofConnector connector.Problem
			ofModel     *lifecycle.Problem
			ofTable     *score.Problem
		)
		switch {
		case errors.As(err, &ofConfig):
			add(finding{Mistake: server.Mistake(ofConfig)})
		case errors.As(err, &ofConnector):
			add(finding{Mistake: server.Mistake(ofConnector)})
		case errors.As(err, &ofModel):
			add(finding{server.Mistake{
				File: ofModel.File, Line: ofModel.Line, Column: ofModel.Column, Path: ofModel.Path, Message: ofModel.Message, Suggestion: ofModel.Suggestion,
			}, "", ofModel.Excerpt})
		case errors.As(err, &ofTable):
			add(finding{Mistake: server.Mistake{
				File: ofTable.File, Line: ofTable.Line, Column: ofTable.Column, Message: ofTable.Message, Suggestion: ofTable.Suggestion,
			}})
		default:
			add(finding{Mistake: server.Mistake{Message: err.Error()}})
		}
	}
	if err != nil {
		walk(err)
	}
	return out
}

// error makes it an error again, from which findings makes the same.
func (f finding) error() error {
	return &lifecycle.Problem{
		File: f.File, Line: f.Line, Column: f.Column, Path: f.Path, Message: f.Message, Suggestion: f.Suggestion, Excerpt: f.excerpt,
	}
}

// print writes the finding as "file:line:column: level: path: message (suggestion)" with its line and a caret below.
func (f finding) print(w io.Writer, level string) error {
	var b strings.Builder
	if f.File != "" {
		b.WriteString(f.File)
		if f.Line > 0 {
			fmt.Fprintf(&b, ":%d:%d", f.Line, f.Column)
		}
		b.WriteString(": ")
	}
	b.WriteString(level + ": ")
	if f.Path != "" {
		b.WriteString(f.Path + ": ")
	}
	b.WriteString(f.Message)
	if f.Suggestion != "" {
		b.WriteString(" (" + f.Suggestion + ")")
	}
	if f.check != "" {
		b.WriteString(" [" + f.check + "]")
	}
	b.WriteString("\n")
	excerpt := f.excerpt
	if excerpt == "" {
		excerpt = f.read()
	}
	for line := range strings.Lines(excerpt) {
		b.WriteString("    " + strings.TrimRight(line, "\r\n") + "\n")
	}
	_, err := io.WriteString(w, b.String())
	return err
}

// read makes the excerpt from the file. A line that may hold a secret in plain is not shown.
func (f finding) read() string {
	if f.File == "" || f.Line < 1 || f.Column < 1 {
		return ""
	}
	text, err := os.ReadFile(f.File)
	if err != nil {
		return "" // an embedded file, or one that is gone: the place is said already
	}
	lines := bytes.Split(text, []byte("\n"))
	if f.Line > len(lines) {
		return ""
	}
	line := strings.TrimRight(string(lines[f.Line-1]), "\r")
	if len(line) > 200 || f.Column > len(line)+1 || holdsSecret(line) {
		return ""
	}
	pad := []rune(line)
	if f.Column-1 < len(pad) {
		pad = pad[:f.Column-1]
	}
	for i, r := range pad {
		if r != '\t' {
			pad[i] = ' '
		}
	}
	return line + "\n" + string(pad) + "^"
}

// holdsSecret reports whether a line seems to hold a secret that is not a reference.
func holdsSecret(line string) bool {
	line = strings.ToLower(line)
	for _, word := range []string{"secret", "token", "password", "private_key", "api_key", "://"} {
		at := strings.Index(line, word)
		if at < 0 {
			continue
		}
		if word == "://" {
			if strings.Contains(line[at:], "@") {
				return true
			}
			continue
		}
		if rest := line[at:]; !strings.Contains(rest, "${env:") && !strings.Contains(rest, "${file:") && strings.Contains(rest, ":") {
			return true
		}
	}
	return false
}
