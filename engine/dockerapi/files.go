package dockerapi

import (
	"encoding/base64"
	"encoding/json"
	"fmt"
	"io"
	"net/http"

	"github.com/moby/moby/api/types/container"

	"novaagent/engine"
	"novaagent/engine/errdefs"
)

// archivePath is the parameter path, which must be there.
func (r *request) archivePath() (string, error) {
	path := r.query.Get("path")
	if path == "" {
		return "", fmt.Errorf("bad parameter: path cannot be empty: %w", errdefs.ErrInvalid)
	}
	return path, nil
}

// setStat tells a path's looks in the header of its own that the API has for it.
func (r *request) setStat(s engine.PathStat) error {
	document, err := json.Marshal(container.PathStat{Name: s.Name, Size: s.Size, Mode: s.Mode, Mtime: s.MTime, LinkTarget: s.LinkTarget})
	if err != nil {
		return err
	}
	r.w.Header().Set("X-Docker-Container-Path-Stat", base64.StdEncoding.EncodeToString(document))
	return nil
}

func (s *server) archiveStat(r *request) error {
	path, err := r.archivePath()
	if err != nil {
		return err
	}
	stat, err := s.engine.StatPath(r.Context(), r.vars["id"], path)
	if err != nil {
		return err
	}
	if err := r.setStat(stat); err != nil {
		return err
	}
	return r.done(http.StatusOK)
}

func (s *server) archiveGet(r *request) error {
	path, err := r.archivePath()
	if err != nil {
		return err
	}
	tar, stat, err := s.engine.Archive(r.Context(), r.vars["id"], path)
	if err != nil {
		return err
	}
	defer tar.Close()
	if err := r.setStat(stat); err != nil {
		return err
	}
	return r.sendTar(tar, "application/x-tar")
}

// send answers with the stream that write makes. If that fails halfway the connection is cut, so that the
// client doesn't take the part for the whole.
func (r *request) send(mediaType string, write func(io.Writer) error) error {
	r.w.Header().Set("Content-Type", mediaType)
	if err := write(r.w); err != nil {
		if rec, ok := r.w.(*recorder); ok && rec.status == 0 {
			return err
		}
		panic(http.ErrAbortHandler)
	}
	return nil
}

// sendTar answers with what tar reads.
func (r *request) sendTar(tar io.Reader, mediaType string) error {
	return r.send(mediaType, func(w io.Writer) error {
		_, err := io.Copy(w, tar)
		return err
	})
}

func (s *server) archivePut(r *request) error {
	path, err := r.archivePath()
	if err != nil {
		return err
	}
	err = s.engine.Extract(r.Context(), r.vars["id"], path, r.Body, engine.ExtractOptions{
		NoOverwriteDirNonDir: r.boolean("noOverwriteDirNonDir", false),
		ToUser:               r.boolean("copyUIDGID", false),
	})
	if err != nil {
		return err
	}
	return r.done(http.StatusOK)
}

func (s *server) containerExport(r *request) error {
	tar, err := s.engine.Export(r.Context(), r.vars["id"])
	if err != nil {
		return err
	}
	defer tar.Close()
	return r.sendTar(tar, "application/octet-stream")
}

func (s *server) containerChanges(r *request) error {
	changes, err := s.engine.Changes(r.Context(), r.vars["id"])
	if err != nil {
		return err
	}
	var answer []container.FilesystemChange // null if there are none, as Docker's
	for _, c := range changes {
		answer = append(answer, container.FilesystemChange{Kind: container.ChangeType(c.Kind), Path: c.Path})
	}
	return r.reply(http.StatusOK, answer)
}
