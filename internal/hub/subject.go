package hub

import "strings"

// SubjectKind says whose stage a stage is.
type SubjectKind string

// Kinds of subject.
const (
	SubjectCustomer SubjectKind = "customer"
	SubjectCompany  SubjectKind = "company"
	SubjectDeal     SubjectKind = "deal"
)

// Subject is who or what stages, pins, wake-ups and transitions belong to. A customer's or company's ID is that of its row; a
// deal's is "<connection>:<the vendor's id of the deal>", because two systems may use the same id for two deals.
type Subject struct {
	Kind SubjectKind `json:"kind"`
	ID   string      `json:"id"`
}

// DealSubject returns the subject that a deal of a connection is.
func DealSubject(connection, id string) Subject {
	return Subject{Kind: SubjectDeal, ID: connection + ":" + id}
}

// Deal returns the connection and the vendor's id of a deal's subject; false for other subjects.
func (s Subject) Deal() (connection, id string, ok bool) {
	if s.Kind != SubjectDeal {
		return "", "", false
	}
	return strings.Cut(s.ID, ":")
}

// TellsOfCompany reports whether events of that kind are a system's record of a company: whoever they belong to is one.
func TellsOfCompany(kind string) bool {
	return kind == "company.created" || kind == "company.updated" || kind == KindMemberJoined
}
