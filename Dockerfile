# No digest is pinned here, for none has been checked: give one with
# docker build --build-arg BASE=python:3.12-slim@sha256:...
ARG BASE=python:3.12-slim
FROM ${BASE}

WORKDIR /opt/anomaly-cli
# Every package in the release that was tested, compared by its hash; `make lock` writes the file. No
# window is opened here: it holds the headless OpenCV, which needs neither Qt nor the system's libGL.
COPY constraints.txt ./
RUN pip install --no-cache-dir --require-hashes --no-deps -r constraints.txt

COPY setup.cfg pyproject.toml README.md LICENSE ./
COPY anomaly_cli anomaly_cli
COPY models models
RUN pip install --no-cache-dir --no-deps .

# The user's own files are mounted here; runs/ and results/ are written beside them.
RUN useradd --create-home anomaly && mkdir /work && chown anomaly /work
USER anomaly
WORKDIR /work
ENV ANOMALY_CLI_DATA=/work/data/mvtec
ENTRYPOINT ["anomaly-cli"]
CMD ["--help"]
