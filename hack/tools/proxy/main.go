// Command proxy is a forward proxy for tests: HTTP CONNECT, the same behind
// TLS, and SOCKS5, each on a port of its own, with or without credentials. It
// prints one line for each destination that it connects to.
package main

import (
	"context"
	"crypto/tls"
	"encoding/base64"
	"flag"
	"fmt"
	"log"
	"net"
	"net/http"

	"github.com/armon/go-socks5"
	"github.com/elazarl/goproxy"
)

func main() {
	plain := flag.String("http", "", "address for HTTP CONNECT")
	https := flag.String("https", "", "address for HTTP CONNECT behind TLS")
	socks := flag.String("socks5", "", "address for SOCKS5")
	cert := flag.String("cert", "", "certificate of --https, PEM")
	key := flag.String("key", "", "its key, PEM")
	user := flag.String("user", "", "the one user; empty: no credentials are wanted")
	password := flag.String("password", "", "the user's password")
	flag.Parse()

	wanted := ""
	if *user != "" {
		wanted = "Basic " + base64.StdEncoding.EncodeToString([]byte(*user+":"+*password))
	}
	connect := goproxy.NewProxyHttpServer()
	connect.OnRequest().HandleConnectFunc(func(host string, call *goproxy.ProxyCtx) (*goproxy.ConnectAction, string) {
		if given := call.Req.Header.Get("Proxy-Authorization"); wanted != "" && given != wanted {
			call.Resp = goproxy.NewResponse(call.Req, goproxy.ContentTypeText, http.StatusProxyAuthRequired, "")
			return goproxy.RejectConnect, host
		}
		fmt.Println("connect", host)
		return goproxy.OkConnect, host
	})

	config := &socks5.Config{
		Dial: func(_ context.Context, network, address string) (net.Conn, error) {
			fmt.Println("socks5", address)
			return net.Dial(network, address)
		},
	}
	if *user != "" {
		config.Credentials = socks5.StaticCredentials{*user: *password}
	}
	server, err := socks5.New(config)
	if err != nil {
		log.Fatal(err)
	}

	ended := make(chan error)
	if *plain != "" {
		go func() { ended <- http.ListenAndServe(*plain, connect) }()
	}
	if *https != "" {
		// HTTP/1.1 alone: with HTTP/2, kubectl does not understand a proxy.
		only := map[string]func(*http.Server, *tls.Conn, http.Handler){}
		server := &http.Server{Addr: *https, Handler: connect, TLSNextProto: only}
		go func() { ended <- server.ListenAndServeTLS(*cert, *key) }()
	}
	if *socks != "" {
		go func() { ended <- server.ListenAndServe("tcp", *socks) }()
	}
	log.Fatal(<-ended)
}
