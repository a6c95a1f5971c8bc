package serve

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/base32"
	"encoding/pem"
	"flag"
	"fmt"
	"io"
	"math/big"
	"net"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"time"

	"aslrescue/backends/aslhttp"
	"aslrescue/cmd/internal/report"
)

// keeper holds the certificate in use.
type keeper struct {
	mu   sync.Mutex
	cert *tls.Certificate
}

func (k *keeper) load(cert, key string) error {
	c, err := tls.LoadX509KeyPair(cert, key)
	if err != nil {
		return &report.Error{What: "read the certificate", Err: err, Code: report.Usage, Next: []string{"asl-backend certificate --host NAME --dir DIR makes one"}}
	}
	if c.Leaf, err = x509.ParseCertificate(c.Certificate[0]); err != nil {
		return &report.Error{What: "read the certificate " + cert, Err: err, Code: report.Usage}
	}
	k.mu.Lock()
	defer k.mu.Unlock()
	k.cert = &c
	return nil
}

func (k *keeper) get(*tls.ClientHelloInfo) (*tls.Certificate, error) {
	k.mu.Lock()
	defer k.mu.Unlock()
	return k.cert, nil
}

func (k *keeper) pin() string {
	c, _ := k.get(nil) // never fails
	return pinOf(c.Leaf)
}

func pinOf(c *x509.Certificate) string {
	return fmt.Sprintf("sha256:%x", sha256.Sum256(c.RawSubjectPublicKeyInfo))
}

// token makes one. The word goes to standard error, for a person; the line to standard output, for the file.
func token(args []string, out, stderr io.Writer) error {
	fs := flag.NewFlagSet("token", flag.ContinueOnError)
	role := fs.String("role", "", "full, append or read")
	domain := fs.String("domain", "", "whose store")
	quota := fs.Int64("quota", 0, "bytes that it may store; 0: any number")
	if err := parse(fs, args, "role", "domain"); err != nil {
		return err
	}
	var b [20]byte
	rand.Read(b[:])
	word := strings.ToLower(base32.StdEncoding.EncodeToString(b[:])) // letters and digits that can be typed at night
	line := fmt.Sprintf("%x %s %s", aslhttp.HashToken(word), *role, *domain)
	if *quota != 0 {
		line += fmt.Sprint(" ", *quota)
	}
	if _, err := aslhttp.ParseTokens(strings.NewReader(line)); err != nil {
		return report.Usagef("token: %s", strings.TrimPrefix(err.Error(), "line 1: "))
	}
	if _, err := fmt.Fprintln(out, line); err != nil {
		return err
	}
	_, err := fmt.Fprintf(stderr, "token: %s\n  It is shown once. The server keeps only what went to standard output.\n", word)
	return err
}

// certificate makes a key and a certificate that vouches for itself. With a pin no client minds how long it is valid.
func certificate(args []string, out io.Writer) error {
	fs := flag.NewFlagSet("certificate", flag.ContinueOnError)
	hosts := fs.String("host", "", "names and addresses, with commas")
	dir := fs.String("dir", "", "folder for cert.pem and key.pem")
	if err := parse(fs, args, "host", "dir"); err != nil {
		return err
	}
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return err
	}
	serial, err := rand.Int(rand.Reader, new(big.Int).Lsh(big.NewInt(1), 120))
	if err != nil {
		return err
	}
	t := &x509.Certificate{SerialNumber: serial, NotBefore: time.Unix(0, 0), NotAfter: time.Date(2100, 1, 1, 0, 0, 0, 0, time.UTC), // no clock is to matter
		KeyUsage: x509.KeyUsageDigitalSignature | x509.KeyUsageCertSign, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth}, BasicConstraintsValid: true, IsCA: true}
	for h := range strings.SplitSeq(*hosts, ",") {
		if ip := net.ParseIP(h); ip != nil {
			t.IPAddresses = append(t.IPAddresses, ip)
		} else {
			t.DNSNames = append(t.DNSNames, h)
		}
		t.Subject = pkix.Name{CommonName: "asl-backend " + h}
	}
	der, err := x509.CreateCertificate(rand.Reader, t, t, &key.PublicKey, key)
	if err != nil {
		return report.Usagef("certificate: %w", err)
	}
	private, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		return err
	}
	if err := os.MkdirAll(*dir, 0o700); err != nil {
		return &report.Error{What: "make " + *dir, Err: err}
	}
	for _, f := range []struct {
		name, kind string
		der        []byte
		mode       os.FileMode
	}{{"key.pem", "PRIVATE KEY", private, 0o600}, {"cert.pem", "CERTIFICATE", der, 0o644}} {
		if err := writeNew(filepath.Join(*dir, f.name), pem.EncodeToMemory(&pem.Block{Type: f.kind, Bytes: f.der}), f.mode); err != nil {
			return err
		}
	}
	leaf, err := x509.ParseCertificate(der)
	if err != nil {
		return err
	}
	_, err = fmt.Fprintf(out, "remote.pin = %q\n", pinOf(leaf))
	return err
}

// writeNew takes the place of no file.
func writeNew(path string, data []byte, mode os.FileMode) error {
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_EXCL, mode)
	if err != nil {
		return &report.Error{What: "write " + path, Err: err}
	}
	_, err = f.Write(data)
	if cerr := f.Close(); err == nil {
		err = cerr
	}
	if err != nil {
		return &report.Error{What: "write " + path, Err: err}
	}
	return nil
}
