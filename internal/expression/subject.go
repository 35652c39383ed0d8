package expression

import (
	"errors"

	"github.com/expr-lang/expr/ast"
	"github.com/expr-lang/expr/builtin"

	"github.com/stagewire/stagewire/internal/hub"
)

// subject is the name of what is staged: deal in a model of deals, company in a model of companies. Elsewhere it says what to
// write instead; false leaves the name to be unknown.
func (c *checker) subject(n *ast.IdentifierNode) (term, bool) {
	switch {
	case n.Value == "deal" && c.env.Of == hub.SubjectDeal:
		for _, k := range c.env.Kinds.All() {
			if k.Object == "deal" {
				c.read(k.Name)
			}
		}
		return call(n, Type{Base: Object, Object: "deal"}, "$subject", self()), true
	case n.Value == "company" && c.env.Of == hub.SubjectCompany:
		return term{node: &ast.NilNode{}, typ: Type{Base: namespace, name: "customer"}}, true
	case n.Value == "deal":
		return c.fail(n, "look at all of them: any(deals, .open), or write of: deal at the top of the model", "there is no one deal here"), true
	}
	return term{}, false
}

var errNoSubject = errors.New("no deal is at hand")

func init() {
	functions["$subject"] = &builtin.Function{Name: "$subject", Func: func(a ...any) (any, error) {
		if o := a[0].(*Session).in.Facts.Subject(); o != nil {
			return o, nil
		}
		return nil, errNoSubject
	}}
}
