package config

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"github.com/pelletier/go-toml/v2"
	"github.com/pelletier/go-toml/v2/unstable"
)

// maxFile is more than any config file needs; what is larger is something else put there by mistake.
const maxFile = 1 << 20

func (c *Config) readFile(file string) []error {
	text, err := os.ReadFile(file)
	if errors.Is(err, os.ErrNotExist) {
		return nil
	}
	if err == nil && len(text) > maxFile {
		err = fmt.Errorf("%d bytes are too many for a config file", len(text))
	}
	if err != nil {
		return []error{&Mistake{File: file, Err: err}}
	}
	entries, err := parse(text)
	if err != nil {
		var d *toml.DecodeError
		m := &Mistake{File: file, Err: err}
		if errors.As(err, &d) {
			m.Line, m.Col = d.Position()
			m.Err = errors.New(strings.TrimPrefix(d.Error(), "toml: "))
		}
		return []error{m}
	}
	return c.take(entries, file)
}

// take gives every entry of a file to its key.
func (c *Config) take(entries []entry, file string) []error {
	var errs []error
	for _, e := range entries {
		m := e.wrong
		if m == nil && e.list && !takesSeveral(e.key) {
			m = &Mistake{Key: e.key, Err: errors.New("want one value, not a list")}
		}
		if m == nil {
			m = c.set(e.key, e.value, fmt.Sprintf("%s:%d", file, e.line), filepath.Base(file))
		}
		if m != nil {
			m.File, m.Line, m.Col = file, e.line, e.col
			errs = append(errs, m)
		}
	}
	return errs
}

// entry is one key of a file with its whole dotted name.
type entry struct {
	key, value string
	list       bool // the values stand in value, with blanks between them
	line, col  int  // of the key
	wrong      *Mistake
}

// parse reads TOML in which a bare word may stand as a value.
func parse(text []byte) ([]entry, error) {
	var whole map[string]any
	if toml.Unmarshal(text, &whole) != nil {
		text = quoteBareWords(text)
		whole = nil
		if err := toml.Unmarshal(text, &whole); err != nil { // finds what the parser below lets pass: keys given twice
			return nil, err
		}
	}
	var p unstable.Parser
	p.Reset(text)
	var entries []entry
	table := ""
	for p.NextExpression() {
		switch e := p.Expression(); e.Kind {
		case unstable.Table, unstable.ArrayTable:
			table, _ = dotted(e.Key(), "")
		case unstable.KeyValue:
			entries = keyValue(entries, text, table, e)
		}
	}
	return entries, p.Error()
}

func keyValue(entries []entry, text []byte, table string, kv *unstable.Node) []entry {
	key, at := dotted(kv.Key(), table)
	e := entry{key: key}
	before := text[:at]
	e.line = 1 + bytes.Count(before, []byte{'\n'})
	e.col = len(before) - bytes.LastIndexByte(before, '\n')
	switch v := kv.Value(); v.Kind {
	case unstable.InlineTable:
		for it := v.Children(); it.Next(); {
			entries = keyValue(entries, text, key, it.Node())
		}
		return entries
	case unstable.Array:
		e.list = true
		for it := v.Children(); it.Next() && e.wrong == nil; {
			e.addElement(it.Node())
		}
	default:
		e.value = scalar(v)
	}
	return append(entries, e)
}

// addElement adds an element of a list. Blanks part them from now on, so none may stand within.
func (e *entry) addElement(n *unstable.Node) {
	switch value := scalar(n); {
	case n.Kind == unstable.Array || n.Kind == unstable.InlineTable:
		e.wrong = &Mistake{Key: e.key, Err: errors.New("want plain values in the list")}
	case n.Kind == unstable.Comment:
	case len(Several(value)) > 1:
		e.wrong = &Mistake{Key: e.key, Err: fmt.Errorf("%q: for a blank or a comma, write ?", value)}
	default:
		e.value += " " + value
	}
}

// scalar is a plain value as text; true and false are the words that people write here.
func scalar(n *unstable.Node) string {
	if n.Kind == unstable.Bool {
		return map[string]string{"true": "yes", "false": "no"}[string(n.Data)]
	}
	return string(n.Data)
}

// dotted joins the parts of a key behind its table and tells where the first part stands.
func dotted(parts unstable.Iterator, table string) (key string, at int) {
	at = -1
	for parts.Next() {
		n := parts.Node()
		if at < 0 {
			at = int(n.Raw.Offset)
		}
		if table != "" {
			table += "."
		}
		table += string(n.Data)
	}
	return table, max(at, 0)
}

// quoteBareWords is the one kindness: a single word behind "key =" that is no TOML value is put in quotes, so that
// mode = auto reads as people write it. Only keys stand before the value, so their line and column stay right.
func quoteBareWords(text []byte) []byte {
	var out bytes.Buffer
	inString := "" // the marker that ends the string of several lines in which this line begins
	for line := range bytes.Lines(text) {
		if inString == "" {
			line = quoteBareWord(line)
		}
		for _, marker := range []string{`"""`, "'''"} {
			if (inString == "" || inString == marker) && bytes.Count(line, []byte(marker))%2 == 1 {
				if inString == "" {
					inString = marker
				} else {
					inString = ""
				}
				break
			}
		}
		out.Write(line)
	}
	return out.Bytes()
}

func quoteBareWord(line []byte) []byte {
	body := strings.TrimRight(string(line), "\r\n")
	before, after, ok := strings.Cut(body, "=")
	if !ok || strings.ContainsAny(before, "#[\"'") {
		return line
	}
	value := strings.TrimLeft(after, " \t")
	word, rest := value, ""
	if i := strings.IndexAny(value, " \t"); i >= 0 {
		word, rest = value[:i], value[i:]
	}
	if word == "" || strings.ContainsAny(word[:1], "\"'[{#") || strings.ContainsRune(word, '\'') {
		return line
	}
	if more := strings.TrimSpace(rest); more != "" && more[0] != '#' {
		return line
	}
	var v map[string]any
	if toml.Unmarshal([]byte("x = "+word), &v) == nil && !strings.ContainsRune(word, '#') {
		return line
	}
	blank := after[:len(after)-len(value)]
	return []byte(before + "=" + blank + "'" + word + "'" + rest + string(line[len(body):]))
}
