package main

import (
	"encoding/json"
	"fmt"
	"io"
	"net/http"
)

func newRest(models *models) http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("POST /v2/models/{name}/infer", func(answer http.ResponseWriter, request *http.Request) {
		name := request.PathValue("name")
		if _, err := io.Copy(io.Discard, request.Body); err != nil {
			http.Error(answer, err.Error(), http.StatusBadRequest)
			return
		}
		answer.Header().Set("content-type", "application/json")
		if !models.has([]byte(name)) {
			answer.WriteHeader(http.StatusNotFound)
			fmt.Fprintf(answer, `{"error":"%s is not loaded"}`, name)
			return
		}
		const tensor = `{"name":"predict","datatype":"INT64","shape":[1,1],"data":[8]}`
		fmt.Fprintf(answer, `{"model_name":"%s","outputs":[%s]}`, name, tensor)
	})
	mux.HandleFunc("GET /counts", func(answer http.ResponseWriter, _ *http.Request) {
		_ = json.NewEncoder(answer).Encode(map[string]int64{
			"loads":    models.loadsDone.Load(),
			"unloads":  models.unloadsDone.Load(),
			"answered": models.answered.Load(),
			"missing":  models.missing.Load(),
		})
	})
	return mux
}
