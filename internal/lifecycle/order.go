package lifecycle

import (
	"fmt"
	"slices"
	"strings"

	"github.com/stagewire/stagewire/internal/expression"
	"github.com/stagewire/stagewire/internal/fact"
	"github.com/stagewire/stagewire/internal/hub"
)

// Order returns the models in an order in which each stands behind those whose stage it reads; what does not matter stays as it was.
// A cycle, and a stage that a model cannot see because it is somebody else's, are mistakes: the error joins a *Problem for
// each, and the models come back as they were. Models that are read but not given are left to Compile.
func Order(models []*Model) ([]*Model, error) {
	byName := make(map[string]*Model, len(models))
	for _, m := range models {
		byName[m.Name] = m
	}
	var problems []*Problem
	for _, m := range models {
		for _, name := range m.uses {
			if other := byName[name]; other != nil && !m.sees(other) {
				problems = append(problems, m.reference(name, sightHint(m, other), "stages.%s is the stage of a %s, which %s has not", name, other.Of, a(m.Of)))
			}
		}
	}
	const visiting, done = 1, 2
	state := make(map[string]int, len(models))
	var order []*Model
	var path []string
	var visit func(m *Model)
	visit = func(m *Model) {
		state[m.Name] = visiting
		path = append(path, m.Name)
		for _, name := range m.uses {
			other := byName[name]
			switch {
			case other == nil:
			case state[name] == visiting:
				cycle := append(slices.Clone(path[slices.Index(path, name):]), name)
				problems = append(problems, m.reference(name, "one of them must do without the stage of the next",
					"models that read each other's stage go round in a circle: %s", strings.Join(cycle, " reads ")))
			case state[name] == 0:
				visit(other)
			}
		}
		path = path[:len(path)-1]
		state[m.Name] = done
		order = append(order, m)
	}
	for _, m := range models {
		if state[m.Name] == 0 {
			visit(m)
		}
	}
	if len(problems) > 0 {
		return models, join(problems)
	}
	return order, nil
}

// Twice is the mistake that two files define one model.
func Twice(m, first *Model) error {
	p := &Problem{File: m.file, Line: 1, Column: 1, Path: "model", Message: fmt.Sprintf("model %s is there twice", m.Name), Suggestion: "give one of them another name"}
	if m.named.source != nil {
		p.Line, p.Column = m.named.line, m.named.column
		p.Excerpt = m.named.source.excerpt(p.Line, p.Column)
	}
	if first.file != m.file {
		p.Message += fmt.Sprintf(", in %s too", first.file)
	}
	return p
}

// sees reports whether a subject of m has one stage in other.
func (m *Model) sees(other *Model) bool {
	return m.Of == other.Of || (m.Of == hub.SubjectDeal && other.Of == hub.SubjectCustomer)
}

func a(of hub.SubjectKind) string { return "a " + string(of) }

func sightHint(m, other *Model) string {
	switch {
	case m.Of == hub.SubjectCustomer && other.Of == hub.SubjectDeal:
		return "a customer has many deals: look at them with any(deals, …)"
	case other.Of == hub.SubjectCompany:
		return "look at the customer's companies: any(customer.companies, …)"
	}
	return ""
}

// reference is a mistake at the first place where the model reads another's stage.
func (m *Model) reference(name, suggestion, format string, args ...any) *Problem {
	p := &Problem{File: m.file, Line: 1, Column: 1, Path: "decide", Message: fmt.Sprintf(format, args...), Suggestion: suggestion}
	for program, at := range m.places {
		offset := strings.Index(program.Text, "stages."+name)
		if offset < 0 || at.at == nil {
			continue
		}
		line, column := at.at(len([]rune(program.Text[:offset])))
		if p.Line == 1 || line < p.Line || (line == p.Line && column < p.Column) {
			p.Line, p.Column, p.Path = line, column, m.pathOf(program)
			p.Excerpt = at.source.excerpt(line, column)
		}
	}
	return p
}

// pathOf returns where a condition stands in the structure of the file.
func (m *Model) pathOf(p *expression.Program) string {
	for i := range m.rules {
		if m.rules[i].when == p {
			return fmt.Sprintf("decide[%d].when", i)
		}
	}
	for name, d := range m.defines {
		if d == p {
			return "define." + name
		}
	}
	return "decide"
}

// ofTest returns the facts as the subject of a test sees them: in a model of deals the first deal that its events tell of.
func (m *Model) ofTest(f *fact.Facts) *fact.Facts {
	if m.Of != hub.SubjectDeal {
		return f
	}
	if deals := f.Deals(); len(deals) > 0 {
		return f.Deal(deals[0].Connection, deals[0].ID)
	}
	return f.Deal("", "")
}
