FROM python:3.12-slim

# torch alone is most of the image: its layer is rebuilt only when these bounds change.
RUN pip install --no-cache-dir 'torch>=2.6' 'torchvision>=0.21'

WORKDIR /opt/anomaly-cli
COPY setup.cfg pyproject.toml README.md LICENSE ./
COPY anomaly_cli anomaly_cli
COPY models models
# No window is opened here: the headless OpenCV needs neither Qt nor the system's libGL.
RUN pip install --no-cache-dir . \
    && pip uninstall --yes opencv-python \
    && pip install --no-cache-dir opencv-python-headless

# The user's own files are mounted here; runs/ and results/ are written beside them.
RUN useradd --create-home anomaly && mkdir /work && chown anomaly /work
USER anomaly
WORKDIR /work
ENV ANOMALY_CLI_DATA=/work/data/mvtec
ENTRYPOINT ["anomaly-cli"]
CMD ["--help"]
