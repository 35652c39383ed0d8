package main

import (
	"bytes"
	"fmt"
	"math"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/go-json-experiment/json"
)

// models fit in the shape of the API, on customers who order at rates of their own and drop out.
func TestModelsFit(t *testing.T) {
	const seed = 11
	t.Logf("seed %d", seed)
	random := rand.New(rand.NewPCG(seed, 4))
	var text strings.Builder
	text.WriteString("id,x,t_x,T\n")
	for i := range 3000 {
		rate, leave, span := 0.2*random.ExpFloat64(), 1-math.Sqrt(random.Float64()), 20+60*random.Float64() // r = 1, alpha = 5, a = 1, b = 2
		x, last := 0, 0.0
		for at := random.ExpFloat64() / rate; at < span; at += random.ExpFloat64() / rate {
			x, last = x+1, at
			if random.Float64() < leave {
				break
			}
		}
		fmt.Fprintf(&text, "%d,%d,%.6f,%.6f\n", i, x, last, span)
	}
	file := filepath.Join(t.TempDir(), "customers.csv")
	if err := os.WriteFile(file, []byte(text.String()), 0o600); err != nil {
		t.Fatal(err)
	}
	var out, errs bytes.Buffer
	if code := run(t.Context(), []string{"models", "fit", "--data", file, "--json"}, nil, &out, &errs); code != exitOK {
		t.Fatalf("exit %d: %s", code, errs.String())
	}
	var got struct {
		BGNBD struct {
			R, Alpha, A, B float64
			LogLikelihood  float64 `json:"log_likelihood"`
		}
		GammaGamma *struct{ P, Q, V float64 }
		Customers  int
		Goodness   struct {
			Counts []struct{ Actual int }
		}
	}
	if err := json.Unmarshal(out.Bytes(), &got, json.MatchCaseInsensitiveNames(true)); err != nil {
		t.Fatal(err)
	}
	for name, v := range map[string][2]float64{"r": {got.BGNBD.R, 1}, "alpha": {got.BGNBD.Alpha, 5}, "a": {got.BGNBD.A, 1}, "b": {got.BGNBD.B, 2}} {
		if math.Abs(v[0]-v[1]) > 0.4*v[1] {
			t.Errorf("%s is %v, want about %v", name, v[0], v[1])
		}
	}
	if got.Customers != 3000 || got.GammaGamma != nil || got.BGNBD.LogLikelihood >= 0 || len(got.Goodness.Counts) == 0 {
		t.Errorf("%+v", got)
	}
	out.Reset()
	if code := run(t.Context(), []string{"models", "fit", "--data", file}, nil, &out, &errs); code != exitOK || !strings.Contains(out.String(), "purchases (BG/NBD)") {
		t.Errorf("exit %d: %s%s", code, out.String(), errs.String())
	}
}
