# The detector on a CPU: docker build -t googlenet-detector .
#     docker run --rm -v "$PWD:/data" -w /data googlenet-detector detect photo.jpg --out found
FROM python:3.12-slim
WORKDIR /src
# PyTorch for CPUs is a tenth of the size of the default build.
RUN pip install --no-cache-dir --index-url https://download.pytorch.org/whl/cpu "torch>=2.14" "torchvision>=0.29"
COPY setup.py pyproject.toml README.md LICENSE ./
COPY proposals proposals
COPY detector detector
# Slim images lack libGL, so OpenCV's build without a display takes the other's place.
RUN pip install --no-cache-dir . \
    && pip uninstall --yes opencv-python \
    && pip install --no-cache-dir "opencv-python-headless>=4.10" \
    && useradd --create-home --uid 1000 detector
WORKDIR /home/detector
USER 1000
# Compiled once here, kept in a folder that this user can write to.
ENV NUMBA_CACHE_DIR=/home/detector/.numba
RUN python -m proposals.warmup && python -m detector.nets.warmup
ENTRYPOINT ["detector"]
CMD ["--help"]
