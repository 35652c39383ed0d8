package modeltest

import (
	"bytes"
	"encoding/xml"
	"errors"
	"io"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

func TestWriteJUnit(t *testing.T) {
	var b bytes.Buffer
	err := WriteJUnit(&b, []Suite{
		{Name: "clc", File: "rules/clc.yaml", Cases: []Case{
			{Name: "a <b> & \"c\"", Line: 12, Took: 1500 * time.Microsecond},
			{Name: "fails", Line: 20, Failures: []string{"line 22: expected new\nsecond line", "line 23: \x00 ü"}, Took: time.Millisecond},
		}},
		{Name: "connectors/pipely", Cases: []Case{{Name: "cases"}}},
	})
	if err != nil {
		t.Fatal(err)
	}
	want := `<?xml version="1.0" encoding="UTF-8"?>
<testsuites name="stagewire" tests="3" failures="1" errors="0" time="0.003">
  <testsuite name="clc" file="rules/clc.yaml" tests="2" failures="1" errors="0" skipped="0" time="0.003">
    <testcase name="a &lt;b&gt; &amp; &#34;c&#34;" classname="clc" file="rules/clc.yaml" line="12" time="0.002"></testcase>
    <testcase name="fails" classname="clc" file="rules/clc.yaml" line="20" time="0.001">
      <failure message="line 22: expected new" type="expectation">rules/clc.yaml:20&#xA;line 22: expected new&#xA;second line&#xA;line 23: ` + "\uFFFD" + ` ü</failure>
    </testcase>
  </testsuite>
  <testsuite name="connectors/pipely" tests="1" failures="0" errors="0" skipped="0" time="0.000">
    <testcase name="cases" classname="connectors/pipely" time="0.000"></testcase>
  </testsuite>
</testsuites>
`
	if d := cmp.Diff(want, b.String()); d != "" {
		t.Error(d)
	}
	checkJUnit(t, b.Bytes())
}

// checkJUnit holds a report against what every reader of the format relies on: the elements and where they stand, the attributes
// they need, and counts that are true.
func checkJUnit(t *testing.T, text []byte) {
	t.Helper()
	inside := map[string]string{"testsuites": "", "testsuite": "testsuites", "testcase": "testsuite", "failure": "testcase"}
	needed := map[string][]string{
		"testsuites": {"tests", "failures", "errors", "time"}, "testsuite": {"name", "tests", "failures", "errors", "skipped", "time"},
		"testcase": {"name", "classname", "time"}, "failure": {"message", "type"},
	}
	var path []string
	said, found := map[string]int{}, map[string]int{}
	d := xml.NewDecoder(bytes.NewReader(text))
	for {
		token, err := d.Token()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			t.Fatal(err)
		}
		switch e := token.(type) {
		case xml.StartElement:
			name, parent := e.Name.Local, ""
			if len(path) > 0 {
				parent = path[len(path)-1]
			}
			if of, known := inside[name]; !known || of != parent {
				t.Fatalf("%s inside %q", name, parent)
			}
			attributes := map[string]string{}
			for _, a := range e.Attr {
				attributes[a.Name.Local] = a.Value
			}
			for _, key := range needed[name] {
				value, ok := attributes[key]
				if !ok {
					t.Errorf("%s has no %s", name, key)
				}
				if n, err := strconv.Atoi(value); err == nil && (key == "tests" || key == "failures") {
					said[name+" "+key] += n
				}
			}
			if line, ok := attributes["line"]; ok {
				if n, err := strconv.Atoi(line); err != nil || n < 1 {
					t.Errorf("line %q", line)
				}
			}
			found[name]++
			path = append(path, name)
		case xml.EndElement:
			path = path[:len(path)-1]
		case xml.CharData:
			if strings.TrimSpace(string(e)) != "" && path[len(path)-1] != "failure" {
				t.Errorf("text in %v: %q", path, e)
			}
		}
	}
	for _, level := range []string{"testsuites", "testsuite"} {
		if said[level+" tests"] != found["testcase"] || said[level+" failures"] != found["failure"] {
			t.Errorf("%s says %v, there are %v", level, said, found)
		}
	}
}
