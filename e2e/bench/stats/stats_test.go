package stats

import "testing"

func TestOf(t *testing.T) {
	for _, c := range []struct {
		in   []float64
		want Spread
		text string
	}{
		{nil, Spread{}, "0.00"},
		{[]float64{3}, Spread{3, 3, 3}, "3.00"},
		{[]float64{9, 1, 2}, Spread{2, 1, 9}, "2.00 (1.00-9.00)"},
		{[]float64{40, 10, 20, 130}, Spread{30, 10, 130}, "30.0 (10.0-130)"},
	} {
		if got := Of(c.in); got != c.want || got.Text() != c.text {
			t.Errorf("%v: got %v, %s", c.in, got, got.Text())
		}
	}
}

func TestRatioComparesWithinARound(t *testing.T) {
	ours := map[int]float64{0: 1, 1: 10, 2: 2}
	theirs := map[int]float64{0: 2, 1: 20, 2: 4, 3: 100} // each twice ours; round 3 has no partner
	if got := Ratio(theirs, ours); got != 2 {
		t.Errorf("got %v", got)
	}
	if got := Ratio(theirs, nil); got != 0 {
		t.Errorf("without us: %v", got)
	}
}

func TestTable(t *testing.T) {
	got := Table([]string{"name", ">wall s"}, [][]string{{"us", "1.0"}, {"möhre", "12.34"}})
	want := "name   wall s\nus        1.0\nmöhre   12.34\n"
	if got != want {
		t.Errorf("got\n%swant\n%s", got, want)
	}
}
