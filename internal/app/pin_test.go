package app

import (
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/stagewire/stagewire/internal/server"
)

// A person's decision over the API: it is shown with who and why, wins over the rules, is explained, and ends when it is released.
func TestPins(t *testing.T) {
	t.Parallel()
	on(t, pins)
}

func pins(t *testing.T, s *site) {
	r := s.start(t, nil)
	r.settled(t, r.accept(t, shopify("orders/paid", "e1", paid("1", ""))))
	ada := func() server.Customer {
		t.Helper()
		list := get[server.List[server.Customer]](t, r, "GET", "/customers?email=ada@example.com", nil)
		if len(list.Items) != 1 {
			t.Fatalf("%d customers", len(list.Items))
		}
		return list.Items[0]
	}
	id := ada().ID
	path := server.PinPath(id, "clc")
	until := time.Now().Add(30 * 24 * time.Hour).UTC().Truncate(time.Millisecond)
	for _, wrong := range []struct {
		path   string
		body   server.PinRequest
		status int
		detail string
	}{
		{path, server.PinRequest{Stage: "loyl", Who: "lena"}, http.StatusBadRequest, `no stage "loyl"`},
		{path, server.PinRequest{Stage: "loyal"}, http.StatusBadRequest, "who"},
		{path, server.PinRequest{Stage: "loyal", Who: "lena", Until: new(time.Now().Add(-time.Hour))}, http.StatusBadRequest, "has passed"},
		{server.PinPath(id, "cls"), server.PinRequest{Stage: "loyal", Who: "lena"}, http.StatusNotFound, "cls"},
		{server.PinPath("cus_nobody", "clc"), server.PinRequest{Stage: "loyal", Who: "lena"}, http.StatusNotFound, "cus_nobody"},
		{path + "?deal=4711", server.PinRequest{Stage: "loyal", Who: "lena"}, http.StatusBadRequest, "<connection>:<id>"},
	} {
		if status, text := r.api(t, "PUT", wrong.path, wrong.body); status != wrong.status || !strings.Contains(string(text), strings.ReplaceAll(wrong.detail, `"`, `\"`)) {
			t.Errorf("%+v: %d %s", wrong.body, status, text)
		}
	}
	pin := get[server.Pin](t, r, "PUT", path, server.PinRequest{Stage: "loyal", Who: "lena", Why: "signed for three years", Until: &until})
	if pin.Stage != "loyal" || pin.Until == nil || !pin.Until.Equal(until) || pin.Subject != nil {
		t.Errorf("%+v", pin)
	}
	stage := ada().Stages["clc"]
	if stage.Stage != "loyal" || stage.By != "pin" || stage.Pin == nil || stage.Pin.Who != "lena" || stage.Pin.Why != "signed for three years" {
		t.Errorf("%+v", stage)
	}
	r.settled(t, r.accept(t, shopify("orders/paid", "e2", paid("2", ""))))
	if stage := ada().Stages["clc"]; stage.Stage != "loyal" {
		t.Errorf("an order moved her to %s", stage.Stage)
	}
	for _, place := range []string{"/customers/" + id + "/explain?model=clc", "/customers/" + id + "/timeline"} {
		if status, text := r.api(t, "GET", place, nil); status != http.StatusOK || !strings.Contains(string(text), "signed for three years") {
			t.Errorf("%s: %d %s", place, status, text)
		}
	}
	if released := get[server.Pin](t, r, "DELETE", path+"?who=olaf", nil); released.Stage != "loyal" {
		t.Errorf("%+v", released)
	}
	if stage := ada().Stages["clc"]; stage.Stage != "lost" || stage.By != "rule" || stage.Pin != nil {
		t.Errorf("released, silent since March: %+v", stage)
	}
	if status, _ := r.api(t, "DELETE", path+"?who=olaf", nil); status != http.StatusNotFound {
		t.Errorf("released twice: %d", status)
	}
}
