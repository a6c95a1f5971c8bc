package artifact

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"testing"

	"lukechampine.com/blake3"
)

func TestHashBytesEqualsTheLibrary(t *testing.T) {
	rnd := rand.NewChaCha8([32]byte{1})
	buf := make([]byte, 300_000)
	rnd.Read(buf)
	sizes := []int{0, 1, 63, 64, 65, 1023, 1024, 1025, 2048, 16383, 16384, 16385, 32768, 49152, 65536, 65537, 131072, 299_999}
	for i := 0; i < 500; i++ {
		sizes = append(sizes, int(rnd.Uint64()%300_000))
	}
	for _, n := range sizes {
		if got, want := HashBytes(buf[:n]), Digest(blake3.Sum256(buf[:n])); got != want {
			t.Fatalf("%d bytes: got %s, want %s", n, got, want)
		}
	}
}

// The digests are golden: a change of either means that every store ever written has other names.
func TestRefsAreGolden(t *testing.T) {
	for _, c := range []struct {
		tag  Tag
		in   string
		want string
	}{
		{NoTag, "", "b3:af1349b9f5f9a1a6a0404dea36dcc9499bcb25c9adc112b7cc9a93cae41f3262"},
		{NoTag, "abc", "b3:6437b3ac38465133ffb63b75273a8db548c558465d79db03fd359c6cd5bd9d85"},
		{MapPage, "abc", "b3:6758d32150c87a6cc9ac3ac9aa260182038f409c61a076f73e15f2c4188c6bd9"},
	} {
		if got := SumTagged(c.tag, []byte(c.in)).String(); got != c.want {
			t.Errorf("tag %v, %q: got %s, want %s", c.tag, c.in, got, c.want)
		}
	}
}

func TestVerifyNamesDamage(t *testing.T) {
	ref := Sum([]byte("good"))
	if err := Verify(ref, NoTag, []byte("good")); err != nil {
		t.Fatal(err)
	}
	if err := Verify(ref, NoTag, []byte("goof")); !errors.Is(err, ErrDamaged) {
		t.Fatalf("got %v, want ErrDamaged", err)
	}
	if err := Verify(ref, MapPage, []byte("good")); !errors.Is(err, ErrDamaged) {
		t.Fatalf("a tag must change the name: got %v", err)
	}
	if err := Verify(Ref{Hash: 9}, NoTag, nil); !errors.Is(err, ErrUnsupported) {
		t.Fatalf("got %v, want ErrUnsupported", err)
	}
}

func TestRefTextAndBinaryRoundTrip(t *testing.T) {
	ref := Sum([]byte("x"))
	if got, err := ParseRef(ref.String()); err != nil || got != ref {
		t.Fatalf("text: %v %v", got, err)
	}
	b, _ := ref.MarshalBinary()
	var got Ref
	if err := got.UnmarshalBinary(b); err != nil || got != ref {
		t.Fatalf("binary: %v %v", got, err)
	}
	for _, bad := range []string{"", "b3:", "b2:" + ref.String()[3:], ref.String() + "0", "b3:" + fmt.Sprintf("%064s", "z")} {
		if _, err := ParseRef(bad); err == nil {
			t.Errorf("%q was taken as a reference", bad)
		}
	}
}

func BenchmarkHash(b *testing.B) {
	for _, n := range []int{4 << 10, 16 << 10, 64 << 10, 100_000, 256 << 10, 8 << 20} {
		buf := make([]byte, n)
		b.Run(fmt.Sprintf("ours/%d", n), func(b *testing.B) {
			b.SetBytes(int64(n))
			for b.Loop() {
				HashBytes(buf)
			}
		})
		b.Run(fmt.Sprintf("Sum256/%d", n), func(b *testing.B) {
			b.SetBytes(int64(n))
			for b.Loop() {
				blake3.Sum256(buf)
			}
		})
	}
}
