FROM python:3.12-slim

# What OpenCV's wheel links against and a slim image lacks.
RUN apt-get update \
    && apt-get install --yes --no-install-recommends libgl1 libglib2.0-0 \
    && rm -rf /var/lib/apt/lists/*

# torch alone is most of the image: its layer is rebuilt only when these bounds change.
RUN pip install --no-cache-dir 'torch>=2.6' 'torchvision>=0.21'

WORKDIR /opt/anomaly-cli
COPY setup.cfg pyproject.toml README.md LICENSE ./
COPY anomaly_cli anomaly_cli
COPY models models
RUN pip install --no-cache-dir .

# The user's own files are mounted here; runs/ and results/ are written beside them.
RUN useradd --create-home anomaly && mkdir /work && chown anomaly /work
USER anomaly
WORKDIR /work
ENV ANOMALY_CLI_DATA=/work/data/mvtec
ENTRYPOINT ["anomaly-cli"]
CMD ["--help"]
