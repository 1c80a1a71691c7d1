package main

import (
	"errors"
	"net/http"
	"strconv"
	"strings"
)

// errPathNUL refuses a path that no environment variable can hold.
var errPathNUL = errors.New("the path contains a NUL byte")

// baseEnv is the environment that every process gets. Variables named like those of a request are left out, so that a function
// never takes one for the caller's.
func baseEnv(own []string, cgiHeaders bool) []string {
	env := make([]string, 0, len(own))
	for _, v := range own {
		if !cgiHeaders || !strings.HasPrefix(v, "Http_") {
			env = append(env, v)
		}
	}
	return env
}

// requestEnv returns base and the variables of the request:
//
//	Http_Method Http_Path Http_Host          always; the path is decoded
//	Http_Query                               if there is one, undecoded
//	Http_ContentLength Http_Content_Length   always; -1 if the length is unknown
//	Http_Transfer_Encoding                   if there is one
//	Http_<Header>                            each header, - as _, several values joined by a comma
//
// Left out are the header Proxy (Http_Proxy is what some programs take for their proxy), headers that would pass for one of the
// other variables, and headers with an underscore in their name, which would pass for the ones with a dash.
// net/http bounds the size of all headers and so of all variables: see maxHeader.
func requestEnv(base []string, r *http.Request) ([]string, error) {
	if strings.IndexByte(r.URL.Path, 0) >= 0 {
		return nil, errPathNUL
	}
	length := strconv.FormatInt(r.ContentLength, 10)
	env := make([]string, 0, len(base)+len(r.Header)+7)
	env = append(env, base...)
	env = append(env,
		"Http_Method="+r.Method,
		"Http_Path="+r.URL.Path,
		"Http_Host="+r.Host,
		"Http_ContentLength="+length,
		"Http_Content_Length="+length)
	if r.URL.RawQuery != "" {
		env = append(env, "Http_Query="+r.URL.RawQuery)
	}
	if len(r.TransferEncoding) > 0 {
		env = append(env, "Http_Transfer_Encoding="+r.TransferEncoding[0])
	}
	for name, values := range r.Header {
		switch name {
		case "Proxy", "Method", "Path", "Host", "Query", "Contentlength", "Content-Length", "Transfer-Encoding":
			continue
		}
		if strings.IndexByte(name, '_') < 0 {
			env = append(env, "Http_"+strings.ReplaceAll(name, "-", "_")+"="+strings.Join(values, ","))
		}
	}
	return env, nil
}
