package lifecycle

import (
	"cmp"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/stagewire/stagewire/internal/hub"
)

// Problem is one mistake in a file that a person wrote. It wraps hub.ErrInvalid.
type Problem struct {
	File         string `json:"file"`
	Line, Column int    // from 1; 0 where the whole file is meant
	Path         string // where in the structure: decide[2].when
	Message      string
	Suggestion   string
	Excerpt      string // the line and a caret below the place
	// Param is the parameter that Env.Params sets wrongly: the mistake is not in the file but where the model is used. "" for all else.
	Param string `json:",omitempty"`
}

// Error gives "file:line:column: path: message (suggestion)". The excerpt is left to the caller.
func (p *Problem) Error() string {
	var b strings.Builder
	b.WriteString(p.File)
	if p.Line > 0 {
		fmt.Fprintf(&b, ":%d:%d", p.Line, p.Column)
	}
	b.WriteString(": ")
	if p.Path != "" {
		b.WriteString(p.Path + ": ")
	}
	b.WriteString(p.Message)
	if p.Suggestion != "" {
		b.WriteString(" (" + p.Suggestion + ")")
	}
	return b.String()
}

// Unwrap returns hub.ErrInvalid.
func (p *Problem) Unwrap() error { return hub.ErrInvalid }

// Problems returns every problem in err, in order.
func Problems(err error) []*Problem {
	if err == nil {
		return nil
	}
	if joined, ok := err.(interface{ Unwrap() []error }); ok {
		var out []*Problem
		for _, e := range joined.Unwrap() {
			out = append(out, Problems(e)...)
		}
		return out
	}
	if p, ok := errors.AsType[*Problem](err); ok {
		return []*Problem{p}
	}
	return nil
}

// join sorts problems by place and joins them; nil without any.
func join(problems []*Problem) error {
	slices.SortStableFunc(problems, func(a, b *Problem) int {
		return cmp.Or(strings.Compare(a.File, b.File), cmp.Compare(a.Line, b.Line), cmp.Compare(a.Column, b.Column))
	})
	errs := make([]error, len(problems))
	for i, p := range problems {
		errs[i] = p
	}
	return errors.Join(errs...)
}
