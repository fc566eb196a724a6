package dockerregistry

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/base64"
	"encoding/json"
	"encoding/pem"
	"math/big"
	"net/http"
	"net/http/httptest"
	"os"
	"strings"
	"sync/atomic"
	"testing"
	"time"
)

// identity is the refresh token that is given out.
const identity = "the-identity-token"

// TokenServer gives out tokens as https://distribution.github.io/distribution/spec/auth/token/ has it. Who
// says no name may pull from public/.
type TokenServer struct {
	URL       string
	ByRefresh atomic.Int32 // tokens given for an identity token

	key  *ecdsa.PrivateKey
	cert []byte
}

func startTokenServer(t testing.TB, bundle string) *TokenServer {
	s := &TokenServer{}
	var err error
	if s.key, err = ecdsa.GenerateKey(elliptic.P256(), rand.Reader); err != nil {
		t.Fatal(err)
	}
	self := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "tokens"}, IsCA: true, BasicConstraintsValid: true,
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(24 * time.Hour), KeyUsage: x509.KeyUsageDigitalSignature | x509.KeyUsageCertSign,
	}
	if s.cert, err = x509.CreateCertificate(rand.Reader, self, self, &s.key.PublicKey, s.key); err == nil {
		err = os.WriteFile(bundle, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: s.cert}), 0o600)
	}
	if err != nil {
		t.Fatal(err)
	}
	server := httptest.NewServer(http.HandlerFunc(s.serve))
	t.Cleanup(server.Close)
	s.URL = server.URL + "/token"
	return s
}

func (s *TokenServer) serve(w http.ResponseWriter, r *http.Request) {
	if err := r.ParseForm(); err != nil {
		http.Error(w, err.Error(), http.StatusBadRequest)
		return
	}
	user, password, named := r.BasicAuth()
	switch {
	case r.Form.Get("grant_type") == "refresh_token":
		if r.Form.Get("refresh_token") != identity {
			http.Error(w, `{"details":"unknown refresh token"}`, http.StatusUnauthorized)
			return
		}
		s.ByRefresh.Add(1)
		user = User
	case r.Form.Get("grant_type") == "password":
		user, password, named = r.Form.Get("username"), r.Form.Get("password"), true
	}
	if named && (user != User || password != Password) {
		http.Error(w, `{"details":"incorrect username or password"}`, http.StatusUnauthorized)
		return
	}
	type access struct {
		Type    string   `json:"type"`
		Name    string   `json:"name"`
		Actions []string `json:"actions"`
	}
	granted := []access{}
	for _, scopes := range r.Form["scope"] {
		for scope := range strings.FieldsSeq(scopes) {
			part := strings.Split(scope, ":")
			if len(part) != 3 {
				continue
			}
			switch {
			case user == User:
				granted = append(granted, access{part[0], part[1], strings.Split(part[2], ",")})
			case strings.HasPrefix(part[1], "public/"):
				granted = append(granted, access{part[0], part[1], []string{"pull"}})
			}
		}
	}
	now := time.Now()
	token, err := s.sign(map[string]any{
		"iss": "test-issuer", "sub": user, "aud": "test-registry", "exp": now.Add(time.Hour).Unix(), "nbf": now.Add(-time.Minute).Unix(),
		"iat": now.Unix(), "jti": rand.Text(), "access": granted,
	})
	if err != nil {
		http.Error(w, err.Error(), http.StatusInternalServerError)
		return
	}
	answer := map[string]any{"token": token, "access_token": token, "expires_in": 3600}
	if user == User && (r.Form.Get("offline_token") == "true" || r.Form.Get("access_type") == "offline") {
		answer["refresh_token"] = identity
	}
	w.Header().Set("Content-Type", "application/json")
	_ = json.NewEncoder(w).Encode(answer) // the client is gone
}

// sign makes a JSON web token.
func (s *TokenServer) sign(claims any) (string, error) {
	head, err := json.Marshal(map[string]any{"typ": "JWT", "alg": "ES256", "x5c": []string{base64.StdEncoding.EncodeToString(s.cert)}})
	if err != nil {
		return "", err
	}
	body, err := json.Marshal(claims)
	if err != nil {
		return "", err
	}
	text := base64.RawURLEncoding.EncodeToString(head) + "." + base64.RawURLEncoding.EncodeToString(body)
	sum := sha256.Sum256([]byte(text))
	r, v, err := ecdsa.Sign(rand.Reader, s.key, sum[:])
	if err != nil {
		return "", err
	}
	sig := make([]byte, 64)
	r.FillBytes(sig[:32])
	v.FillBytes(sig[32:])
	return text + "." + base64.RawURLEncoding.EncodeToString(sig), nil
}
