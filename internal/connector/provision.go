package connector

import (
	"context"
	"fmt"

	"github.com/stagewire/stagewire/internal/hub"
)

// provisionStep is one thing the hub needs at the vendor.
type provisionStep struct {
	name   string
	when   *expression
	check  *query1     // exists: true once it is there
	create *step       // nil: only looked at
	detail *expression // of the check's answer, for a person
}

// Planned is one thing the hub needs at the vendor and how it stands.
type Planned struct {
	Name  string
	State string // exists, missing (a plan), created, failed
	Error string
	// Detail is what a person may want to know of what is there: the values of a picklist. "" for nothing.
	Detail string
}

// States of Planned.
const (
	PlannedExists  = "exists"
	PlannedMissing = "missing"
	PlannedCreated = "created"
	PlannedFailed  = "failed"
)

func (l *loader) provision(a at, c *Connector) {
	for _, x := range a.list() {
		o := x.object("name", "when", "check", "create", "detail")
		s := provisionStep{name: o["name"].text(), when: o["when"].expression(&actionEnv{}, wantsBool)}
		if s.name == "" {
			x.problem("", "name is missing")
		}
		if o["check"].absent() {
			x.problem("", "needs check")
			continue
		}
		s.check = l.query1(o["check"], c, "exists")
		s.detail = o["detail"].expression(&actionEnv{}, wantsAny)
		if !o["create"].absent() {
			p := o["create"].object(append([]string{"outcome"}, requestKeys...)...)
			s.create = &step{request: l.request(p, c, &actionEnv{}), outcome: l.outcomes(p["outcome"], &actionEnv{})}
		}
		c.provision = append(c.provision, s)
	}
}

// Provision looks what of the fields the hub needs is there, and with apply creates what is missing. Applying twice is harmless. The
// error wraps hub.ErrTransient where the vendor could not be asked; what was found until then is returned with it.
func (c *Connector) Provision(ctx context.Context, call Call, conn *hub.Connection, apply bool) ([]Planned, error) {
	var out []Planned
	for i := range c.provision {
		s := &c.provision[i]
		p := performance{c: c, call: call, conn: conn, env: &actionEnv{Settings: c.settingsOf(conn), Params: map[string]any{}, Saved: map[string]any{}, Header: func(...string) string { return "" }}}
		if ok, err := s.when.holds(p.env); err != nil || !ok {
			if err != nil {
				return out, err
			}
			continue
		}
		found, v := p.ask(ctx, s.check)
		if v.outcome != hub.Delivered && !v.gone {
			kind := hub.ErrTransient
			if v.outcome == hub.Refused {
				kind = hub.ErrInvalid
			}
			return out, fmt.Errorf("provision %s at %s: %s: %w", s.name, conn.Name, withoutSecrets(v.reason, conn), kind)
		}
		plan := Planned{Name: s.name, State: PlannedMissing}
		switch {
		case found == "true":
			plan.State = PlannedExists
			if text, err := s.detail.string(p.env); err == nil {
				plan.Detail = text
			}
		case apply && s.create == nil:
			plan.State, plan.Error = PlannedFailed, "cannot be made by the API: make it in the vendor's own screens"
		case apply:
			plan.State = PlannedCreated
			v, err := p.send(ctx, s.create.request, s.create.outcome, false)
			if err != nil {
				return out, err
			}
			if v.outcome != hub.Delivered {
				plan.State, plan.Error = PlannedFailed, withoutSecrets(v.reason, conn)
			}
		}
		out = append(out, plan)
	}
	return out, nil
}

// Provisions reports whether the connector needs fields at the vendor.
func (c *Connector) Provisions() bool { return len(c.provision) > 0 }
