package client

import (
	"bytes"
	"context"
	"encoding/base64"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"time"
)

// saveEvery is the time between two saves of a cursor: what a crash lets a watcher see again.
const saveEvery = time.Second

// ErrCursorFileBroken says that a cursor file holds no cursor. To begin again without one would hide what is missed, so a
// person decides.
var ErrCursorFileBroken = errors.New("the file holds no cursor; delete it to begin with what happens from now on")

// A CursorStore keeps the cursor of one watcher, so that the next run goes on where this one stopped. A watcher saves at
// most once a second and at its end, never ahead of what is finished, from one goroutine.
type CursorStore interface {
	// Load returns the cursor, empty if none was saved yet.
	Load(ctx context.Context) ([]byte, error)
	// Save keeps the cursor instead of the one before. At a watcher's end ctx does not end with the watcher's.
	Save(ctx context.Context, cursor []byte) error
}

// CursorFile returns a store in a file, which is whole even after a crash. The Python client reads it, too.
func CursorFile(path string) CursorStore { return cursorFile(path) }

type cursorFile string

func (f cursorFile) Load(context.Context) ([]byte, error) {
	text, err := os.ReadFile(string(f))
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	cursor, err := base64.StdEncoding.DecodeString(string(bytes.TrimSpace(text)))
	if err != nil || len(cursor) == 0 {
		return nil, fmt.Errorf("%s: %w", string(f), ErrCursorFileBroken)
	}
	return cursor, nil
}

func (f cursorFile) Save(_ context.Context, cursor []byte) error {
	folder, name := filepath.Split(string(f))
	file, err := os.CreateTemp(orElse(folder, "."), name+".*.new")
	if err != nil {
		return err
	}
	_, err = file.WriteString(base64.StdEncoding.EncodeToString(cursor) + "\n")
	if err == nil {
		err = file.Sync()
	}
	err = errors.Join(err, file.Close())
	if err == nil {
		err = os.Rename(file.Name(), string(f))
	}
	if err != nil {
		return errors.Join(err, os.Remove(file.Name()))
	}
	return nil
}

// saving decides when a cursor is saved.
type saving struct {
	store CursorStore
	saved []byte
	at    time.Time
}

// load returns the cursor of the store, empty if there is none.
func (s *saving) load(ctx context.Context) ([]byte, error) {
	if s.store == nil {
		return nil, nil
	}
	cursor, err := s.store.Load(ctx)
	s.saved = cursor
	return cursor, err
}

// save saves a cursor that has moved, if the last save is long enough ago or this is the last.
func (s *saving) save(ctx context.Context, cursor []byte, now time.Time, isLast bool) error {
	hasMoved := len(cursor) > 0 && !bytes.Equal(cursor, s.saved)
	if s.store == nil || !hasMoved || !isLast && now.Sub(s.at) < saveEvery {
		return nil
	}
	if err := s.store.Save(ctx, cursor); err != nil {
		return fmt.Errorf("the cursor was not saved: %w", err)
	}
	s.saved, s.at = cursor, now
	return nil
}
