package main

import (
	"context"
	"io"
	"log/slog"

	"github.com/sirupsen/logrus"
)

// foreignLogs takes the records of containerd's libraries, which log by logrus, into ours.
type foreignLogs struct{ to *slog.Logger }

// adoptForeignLogs makes logrus write to log. Its debug records are left out.
func adoptForeignLogs(log *slog.Logger) {
	logrus.SetOutput(io.Discard)
	logrus.SetLevel(logrus.InfoLevel)
	logrus.StandardLogger().ReplaceHooks(logrus.LevelHooks{})
	logrus.AddHook(foreignLogs{log})
}

// Levels implements logrus.Hook.
func (foreignLogs) Levels() []logrus.Level { return logrus.AllLevels }

// Fire implements logrus.Hook. A warning there is a note here: the libraries warn of every
// feature that a machine lacks.
func (f foreignLogs) Fire(e *logrus.Entry) error {
	level := slog.LevelDebug
	switch {
	case e.Level <= logrus.ErrorLevel:
		level = slog.LevelWarn
	case e.Level == logrus.WarnLevel:
		level = slog.LevelInfo
	}
	ctx := e.Context
	if ctx == nil {
		ctx = context.Background()
	}
	attrs := make([]slog.Attr, 0, len(e.Data)+1)
	attrs = append(attrs, slog.String("by", "containerd"))
	for k, v := range e.Data {
		attrs = append(attrs, slog.Any(k, v))
	}
	f.to.LogAttrs(ctx, level, e.Message, attrs...)
	return nil
}
