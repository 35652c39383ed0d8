package store

import (
	"context"
	"database/sql"
	"errors"
	"strings"

	"github.com/stagewire/stagewire/internal/hub"
)

func scanCustomer(scan func(...any) error, more ...any) (*hub.CustomerRecord, error) {
	c := &hub.CustomerRecord{}
	var kind, tags, previous string
	var first, decided, created, updated int64
	dest := append([]any{&c.ID, &kind, &c.Sequence, &first, &decided, &created, &updated, &c.MergedInto, &c.Name, &c.Email, &tags, &previous}, more...)
	err := scan(dest...)
	c.Kind, c.FirstEventAt, c.DecidedAt, c.CreatedAt, c.UpdatedAt = hub.SubjectKind(kind), at(first), at(decided), at(created), at(updated)
	c.Tags, c.Previous = decodeTexts(tags), decodePrevious(previous)
	return c, err
}

// loadChildren loads the profiles, stages and pins of customers in few statements. They are appended in order of profile id, subject and model.
func loadChildren(ctx context.Context, q querier, customers map[string]*hub.CustomerRecord) error {
	ids := make([]string, 0, len(customers))
	for id := range customers {
		ids = append(ids, id)
	}
	subjects := map[string][]*hub.CustomerRecord{}
	err := inLists(ids, func(args []any, in string) error {
		err := each(ctx, q, "SELECT id, customer_id, connection, key, joined_into, identifiers, facts FROM profiles WHERE customer_id IN "+in+" ORDER BY id", args,
			func(scan func(...any) error) error {
				var p hub.ProfileRecord
				var identifiers string
				if err := scan(&p.ID, &p.CustomerID, &p.Connection, &p.Key, &p.JoinedInto, &identifiers, &p.Facts); err != nil {
					return err
				}
				var err error
				p.Identifiers, err = decodeIdentifiers(identifiers)
				c := customers[p.CustomerID]
				c.Profiles = append(c.Profiles, p)
				return err
			})
		if err != nil {
			return err
		}
		return each(ctx, q, `SELECT customer_id, subject_kind, subject_id, model, version, stage, since, decided_by, decided_at, wakes_at, path FROM stages
			WHERE customer_id IN `+in+" ORDER BY customer_id, subject_kind, subject_id, model", args, func(scan func(...any) error) error {
			r, err := scanStage(scan)
			if c := customers[r.CustomerID]; c != nil {
				c.Stages = append(c.Stages, r)
			}
			return err
		})
	})
	if err != nil {
		return err
	}
	var pinned []string
	for _, c := range customers {
		for _, id := range pinSubjects(c) {
			subjects[id] = append(subjects[id], c)
			pinned = append(pinned, id)
		}
	}
	return inLists(pinned, func(args []any, in string) error {
		return each(ctx, q, "SELECT subject_kind, subject_id, model, stage, who, why, at, until FROM pins WHERE subject_id IN "+in+" ORDER BY subject_id, model, subject_kind", args,
			func(scan func(...any) error) error {
				p, err := scanPin(scan)
				for _, c := range subjects[p.Subject.ID] {
					c.Pins = append(c.Pins, p)
				}
				return err
			})
	})
}

func scanStage(scan func(...any) error) (r hub.StageRecord, err error) {
	var kind string
	var since, decided int64
	var wakes sql.NullInt64
	err = scan(&r.CustomerID, &kind, &r.Subject.ID, &r.Model, &r.Version, &r.Stage, &since, &r.By, &decided, &wakes, &r.Path)
	r.Subject.Kind, r.Since, r.DecidedAt = hub.SubjectKind(kind), at(since), at(decided)
	if wakes.Valid {
		r.WakesAt = at(wakes.Int64)
	}
	return r, err
}

func scanPin(scan func(...any) error) (p hub.PinRecord, err error) {
	var kind string
	var when, until int64
	err = scan(&kind, &p.Subject.ID, &p.Model, &p.Stage, &p.Who, &p.Why, &when, &until)
	p.Subject.Kind, p.At, p.Until = hub.SubjectKind(kind), at(when), at(until)
	return p, err
}

// survivor follows merges and returns the living customer's row, without children; nil where there is none.
func survivor(ctx context.Context, q querier, id string) (*hub.CustomerRecord, error) {
	for range maxChain {
		var c *hub.CustomerRecord
		err := each(ctx, q, "SELECT "+customerColumns+" FROM customers WHERE id = $1", []any{printable(id)}, func(scan func(...any) error) (err error) {
			c, err = scanCustomer(scan)
			return err
		})
		if err != nil || c == nil || c.MergedInto == "" {
			return c, err
		}
		id = c.MergedInto
	}
	return nil, nil
}

// Customer returns a customer with everything of hers; the id of a merged one gives the survivor. hub.ErrNotFound where there is none.
func (s *Store) Customer(ctx context.Context, id string) (*hub.CustomerRecord, error) {
	c, err := survivor(ctx, s.read, id)
	if err != nil {
		return nil, err
	}
	if c == nil {
		return nil, notFound("customer", id)
	}
	return c, loadChildren(ctx, s.read, map[string]*hub.CustomerRecord{c.ID: c})
}

// Recipient returns what may be rendered of a customer; merged ones are followed. Traits are facts, which the store cannot read: they are nil.
func (s *Store) Recipient(ctx context.Context, customerID string) (hub.Recipient, error) {
	c, err := s.Customer(ctx, customerID)
	if err != nil {
		return hub.Recipient{}, err
	}
	return hub.Recipient{CustomerID: c.ID, Identifiers: hub.UnionIdentifiers(c.Profiles)}, nil
}

// Customers returns living customers, those created last first; with Model and Stage, those who entered the stage last.
func (s *Store) Customers(ctx context.Context, q hub.CustomerQuery) ([]*hub.CustomerRecord, string, error) {
	ids, narrowed, err := s.named(ctx, q)
	if err != nil || (narrowed && len(ids) == 0) {
		return nil, "", err
	}
	l := newList("SELECT "+qualified("c", customerColumns)+", c.no FROM customers c", "c.no", q.Page)
	l.and("c.merged_into = ''")
	if narrowed {
		// An identifier points at one customer; issued by several systems, at a few.
		marks := strings.TrimSuffix(strings.Repeat("?, ", len(ids)), ", ")
		l.and("c.id IN ("+marks+")", texts(ids)...)
	}
	if q.Model != "" || q.Stage != "" {
		condition, args := "EXISTS (SELECT 1 FROM stages s WHERE s.customer_id = c.id", []any{}
		if q.Model != "" {
			condition, args = condition+" AND s.model = ?", append(args, q.Model)
		}
		if q.Stage != "" {
			condition, args = condition+" AND s.stage = ?", append(args, q.Stage)
		}
		l.and(condition+")", args...)
	}
	if q.Text != "" {
		// Written so that both databases fold the same letters: ASCII, which e-mail addresses are made of.
		l.and("(lower(c.name) LIKE ? ESCAPE '!' OR lower(c.email) LIKE ? ESCAPE '!')", likeText(q.Text), likeText(q.Text))
	}
	if q.Tag != "" {
		quoted := encoder{}
		quoted.text(q.Tag)
		l.and("c.tags LIKE ? ESCAPE '!'", "%"+escapeLike(string(quoted.buf))+"%")
	}
	var all []*hub.CustomerRecord
	next, err := l.run(ctx, s.read, func(scan func(...any) error, key *int64) error {
		c, err := scanCustomer(scan, key)
		all = append(all, c)
		return err
	})
	if err != nil {
		return nil, "", err
	}
	all = all[:min(len(all), l.limit)]
	byID := make(map[string]*hub.CustomerRecord, len(all))
	for _, c := range all {
		byID[c.ID] = c
	}
	return all, next, loadChildren(ctx, s.read, byID)
}

func likeText(s string) string { return "%" + escapeLike(strings.ToLower(s)) + "%" }

func escapeLike(s string) string {
	return strings.NewReplacer("!", "!!", "%", "!%", "_", "!_").Replace(s)
}

// named returns the customers that q.Email and q.Identifier point at, and whether either was asked for.
func (s *Store) named(ctx context.Context, q hub.CustomerQuery) (ids []string, narrowed bool, err error) {
	find := func(kind, value string) ([]string, error) {
		from := valueHash(kind, value)
		// The key starts with the hash of kind and value: a range of it holds the value of every connection.
		to := append(append([]byte(nil), from...), 0xff, 0xff, 0xff, 0xff, 0xff)
		var found []string
		err := each(ctx, s.read, "SELECT DISTINCT customer_id FROM identifiers WHERE hash >= $1 AND hash <= $2 AND customer_id <> ''", []any{from, to},
			func(scan func(...any) error) error {
				var id string
				err := scan(&id)
				found = append(found, id)
				return err
			})
		return found, err
	}
	if q.Email != "" {
		narrowed = true
		if ids, err = find(hub.IdentifierEmail, strings.ToLower(strings.TrimSpace(q.Email))); err != nil {
			return nil, true, err
		}
	}
	if q.Identifier != "" {
		kind, value, ok := strings.Cut(q.Identifier, ":")
		if !ok {
			return nil, true, errors.Join(errIdentifier, hub.ErrInvalid)
		}
		found, err := find(kind, value)
		if err != nil {
			return nil, true, err
		}
		if narrowed {
			found = intersect(ids, found)
		}
		ids, narrowed = found, true
	}
	return ids, narrowed, nil
}

var errIdentifier = errors.New(`an identifier is asked for as "kind:value"`)

func intersect(a, b []string) (both []string) {
	for _, s := range a {
		for _, o := range b {
			if s == o {
				both = append(both, s)
			}
		}
	}
	return both
}

// StageCounts returns how many living customers, companies or deals stand in each stage of model.
func (s *Store) StageCounts(ctx context.Context, model string) (map[string]int, error) {
	counts := map[string]int{}
	err := each(ctx, s.read, "SELECT stage, count(*) FROM stages WHERE model = $1 GROUP BY stage", []any{model}, func(scan func(...any) error) error {
		var stage string
		var n int
		err := scan(&stage, &n)
		counts[stage] = n
		return err
	})
	if err != nil {
		return nil, err
	}
	// The stages of merged customers are history; there are few, so they are subtracted.
	err = each(ctx, s.read, "SELECT s.stage, count(*) FROM customers c CROSS JOIN stages s WHERE s.customer_id = c.id AND c.merged_into <> '' AND s.model = $1 GROUP BY s.stage", []any{model},
		func(scan func(...any) error) error {
			var stage string
			var n int
			err := scan(&stage, &n)
			if counts[stage] -= n; counts[stage] <= 0 {
				delete(counts, stage)
			}
			return err
		})
	return counts, err
}

// Transitions returns transitions, those recorded last first.
func (s *Store) Transitions(ctx context.Context, p hub.Page) ([]hub.Transition, string, error) {
	l := newList("SELECT "+transitionColumns+", no FROM transitions", "no", p)
	var all []hub.Transition
	next, err := l.run(ctx, s.read, func(scan func(...any) error, key *int64) error {
		t, err := scanTransition(scan, key)
		all = append(all, t)
		return err
	})
	return all[:min(len(all), l.limit)], next, err
}

func scanTransition(scan func(...any) error, more ...any) (t hub.Transition, err error) {
	var kind string
	var when, decided int64
	dest := append([]any{
		&t.ID, &kind, &t.Subject.ID, &t.CustomerID, &t.Model, &t.Version, &t.From, &t.To, &when, &decided, &t.Sequence,
		&t.Cause.Type, &t.Cause.ID, &t.Rule, &t.Passing, &t.Why,
	}, more...)
	err = scan(dest...)
	t.Subject.Kind, t.At, t.DecidedAt = hub.SubjectKind(kind), at(when), at(decided)
	return t, err
}
