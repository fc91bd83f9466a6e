// franz-go with a worker per key: makes the six calls of a sync and derives nothing.
package main

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"log"
	"net/http"
	"net/url"
	"os"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"
)

// maxPending bounds the records that are read but not done.
const maxPending = 10_000

type service struct {
	client   *http.Client
	sesamy   string
	mailmojo string
	token    string
	apiToken string
}

type profile struct {
	Email string   `json:"email"`
	Tags  []string `json:"tags"`
}

type contact struct {
	Email  string         `json:"email"`
	Tags   []string       `json:"tags"`
	Custom map[string]any `json:"custom"`
}

func main() {
	width, err := strconv.Atoi(os.Getenv("SYNC_CONCURRENCY"))
	must(err)
	s := &service{
		client: &http.Client{Transport: &http.Transport{
			MaxIdleConnsPerHost: 2 * width, // the default closes all idle connections but two
			DisableCompression:  true,
		}},
		sesamy:   os.Getenv("SESAMY_API_URL") + "/management/",
		mailmojo: os.Getenv("MAILMOJO_API_URL") + "/v1/contacts/",
		apiToken: os.Getenv("MAILMOJO_API_TOKEN"),
	}
	s.token, err = s.fetchToken()
	must(err)
	session, err := time.ParseDuration(os.Getenv("KAFKA_SESSION_TIMEOUT") + "s")
	must(err)
	kafka, err := kgo.NewClient(
		kgo.SeedBrokers(os.Getenv("KAFKA_BOOTSTRAP_SERVERS")),
		kgo.ConsumerGroup(os.Getenv("KAFKA_GROUP_ID")),
		kgo.ConsumeTopics(os.Getenv("KAFKA_TOPIC")),
		kgo.ConsumeResetOffset(kgo.NewOffset().AtStart()),
		kgo.FetchIsolationLevel(kgo.ReadCommitted()),
		kgo.Balancers(kgo.RangeBalancer()),
		kgo.SessionTimeout(session),
		kgo.AutoCommitMarks(), // commits, every 5 s, what `finish` marked
	)
	must(err)
	w := &workers{
		service: s,
		kafka:   kafka,
		slots:   make(chan struct{}, width),
		pending: make(chan struct{}, maxPending),
		queues:  map[string][]*kgo.Record{},
		open:    map[int32][]*kgo.Record{},
		done:    map[*kgo.Record]bool{},
	}
	for {
		fetches := kafka.PollFetches(context.Background())
		for _, failed := range fetches.Errors() {
			log.Fatal(failed.Err)
		}
		fetches.EachRecord(w.add)
	}
}

// workers runs one goroutine per key that has records, `cap(slots)` of them at a time.
type workers struct {
	service *service
	kafka   *kgo.Client
	slots   chan struct{}
	pending chan struct{}
	mutex   sync.Mutex
	queues  map[string][]*kgo.Record
	open    map[int32][]*kgo.Record // by partition, from the first record that is not done
	done    map[*kgo.Record]bool
}

func (w *workers) add(record *kgo.Record) {
	w.pending <- struct{}{}
	w.mutex.Lock()
	defer w.mutex.Unlock()
	key := string(record.Key)
	queue, running := w.queues[key]
	w.queues[key] = append(queue, record)
	w.open[record.Partition] = append(w.open[record.Partition], record)
	if !running {
		go w.work(key)
	}
}

func (w *workers) work(key string) {
	for {
		w.mutex.Lock()
		queue := w.queues[key]
		if len(queue) == 0 {
			delete(w.queues, key)
			w.mutex.Unlock()
			return
		}
		record := queue[0]
		w.queues[key] = queue[1:]
		w.mutex.Unlock()
		w.slots <- struct{}{}
		must(w.service.sync(record.Value))
		<-w.slots
		w.finish(record)
	}
}

// finish marks the offset before which all records of the partition are done.
func (w *workers) finish(record *kgo.Record) {
	w.mutex.Lock()
	defer w.mutex.Unlock()
	w.done[record] = true
	open := w.open[record.Partition]
	for len(open) > 0 && w.done[open[0]] {
		delete(w.done, open[0])
		w.kafka.MarkCommitRecords(open[0])
		open = open[1:]
		<-w.pending
	}
	w.open[record.Partition] = open
}

// sync reads the profile; contracts, then transactions, beside entitlements; then the contact, which it writes.
func (s *service) sync(event []byte) error {
	var about struct {
		UserID string `json:"userId"`
	}
	if err := json.Unmarshal(event, &about); err != nil {
		return err
	}
	var user profile
	if err := s.read("users/"+url.PathEscape(about.UserID), &user); err != nil {
		return err
	}
	of := "userId=" + url.QueryEscape(about.UserID)
	entitlements := make(chan error, 1)
	go func() { entitlements <- s.read("entitlements?"+of, nil) }()
	err := s.read("contracts?"+of+"&limit=100&offset=0", nil)
	if err == nil {
		err = s.read("transactions?"+of+"&limit=100&offset=0", nil)
	}
	if other := <-entitlements; err == nil {
		err = other
	}
	if err != nil {
		return err
	}
	return s.write(about.UserID, user)
}

func (s *service) write(userID string, user profile) error {
	email := strings.ToLower(strings.TrimSpace(user.Email))
	address := s.mailmojo + url.PathEscape(email) + "/"
	var current contact
	if err := s.send("GET", address, s.apiToken, nil, &current); err != nil {
		return err
	}
	after := contact{Email: email, Tags: []string{}, Custom: current.Custom}
	for _, tag := range current.Tags {
		if !strings.HasPrefix(tag, "sesamy_") {
			after.Tags = append(after.Tags, tag)
		}
	}
	for _, tag := range user.Tags {
		if strings.HasPrefix(tag, "v-") {
			after.Tags = append(after.Tags, "sesamy_tag_"+tag)
		}
	}
	if after.Custom == nil {
		after.Custom = map[string]any{}
	}
	after.Custom["Sesamy User ID"] = userID
	body, err := json.Marshal(after)
	if err != nil {
		return err
	}
	return s.send("PATCH", address, s.apiToken, body, nil)
}

func (s *service) read(path string, into any) error {
	return s.send("GET", s.sesamy+path, s.token, nil, into)
}

func (s *service) send(method, address, token string, body []byte, into any) error {
	request, err := http.NewRequest(method, address, bytes.NewReader(body))
	if err != nil {
		return err
	}
	request.Header.Set("Authorization", "Bearer "+token)
	if body != nil {
		request.Header.Set("Content-Type", "application/json")
	}
	return s.do(request, into)
}

func (s *service) do(request *http.Request, into any) error {
	response, err := s.client.Do(request)
	if err != nil {
		return err
	}
	defer response.Body.Close()
	content, err := io.ReadAll(response.Body)
	if err != nil {
		return err
	}
	if response.StatusCode != http.StatusOK {
		return fmt.Errorf("%s %s: status %d", request.Method, request.URL.Path, response.StatusCode)
	}
	if into == nil {
		return nil
	}
	return json.Unmarshal(content, into)
}

func (s *service) fetchToken() (string, error) {
	form := url.Values{
		"grant_type":    {"client_credentials"},
		"client_id":     {os.Getenv("SESAMY_CLIENT_ID")},
		"client_secret": {os.Getenv("SESAMY_CLIENT_SECRET")},
	}
	request, err := http.NewRequest("POST", os.Getenv("SESAMY_TOKEN_URL"), strings.NewReader(form.Encode()))
	if err != nil {
		return "", err
	}
	request.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	var token struct {
		AccessToken string `json:"access_token"`
	}
	err = s.do(request, &token)
	return token.AccessToken, err
}

func must(err error) {
	if err != nil {
		log.Fatal(err)
	}
}
