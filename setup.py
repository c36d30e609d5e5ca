"""Static metadata of the distribution; nothing of the toolkit is imported here, so building needs no torch."""

from pathlib import Path

from setuptools import find_packages, setup

ONNX = ["onnx>=1.20", "onnxscript>=0.6", "onnxruntime>=1.23"]
DEMO = ["starlette>=1.10", "uvicorn>=0.54", "markdown-it-py>=3"]

setup(
    name="googlenet-detector",
    version="0.2.0",
    description="Object detection with proposals and region classifiers: the GoogLeNet ILSVRC-2014 system, rebuilt",
    classifiers=[
        "Programming Language :: Python :: 3",
        *(f"Programming Language :: Python :: 3.{minor}" for minor in range(10, 14)),
        "Topic :: Scientific/Engineering :: Image Recognition",
    ],
    long_description=Path(__file__).with_name("README.md").read_text(encoding="utf-8"),
    long_description_content_type="text/markdown",
    license_expression="MIT",
    license_files=["LICENSE"],
    python_requires=">=3.10,<3.14",
    packages=find_packages(include=["detector", "detector.*", "proposals", "proposals.*"]),
    package_data={
        "detector": ["py.typed", "models/**/*", "report/assets/*", "serving/assets/*", "data/map_det.txt"],
        "proposals": ["py.typed"],
    },
    install_requires=[
        "torch>=2.14",
        "torchvision>=0.29",
        "numpy>=1.26",
        "llvmlite>=0.44",
        "numba>=0.61",
        "opencv-python>=4.10",
        "scikit-image>=0.24",
        "scikit-learn>=1.5",
        "scipy>=1.13",
        "Pillow>=12.3",
        "pydantic>=2.8",
        "PyYAML>=6.0",
        "Jinja2>=3.1",
        "typer>=0.19",
        "rich>=13.7",
        "safetensors>=0.4.3",
        "defusedxml>=0.7.1",
        "matplotlib>=3.9",
        "packaging>=23.2",
    ],
    extras_require={
        "test": [
            *("pytest>=8.0", "hypothesis>=6.100", "pytest-xdist>=3.5", "setuptools>=77", "mypy>=1.14"),
            *("pycocotools>=2.0.8", "pandas>=2.2", "supervision>=0.26", "pyarrow>=17", "httpx2>=2.16", *ONNX, *DEMO),
        ],
        "interop": ["pandas>=2.2", "supervision>=0.26"],
        "demo": DEMO,
        "parquet": ["pyarrow>=17"],
        "ray": ["ray[data]>=2.51"],
        "onnx": ONNX,
        "openvino": ["openvino>=2026.0", "onnx>=1.20", "onnxscript>=0.6"],
        "docs": ["mkdocs>=1.6,<2", "mkdocs-material>=9.6", "mkdocstrings[python]>=0.30"],
        "lint": ["ruff>=0.9", "mypy>=1.14", "types-PyYAML>=6.0"],
    },
    entry_points={"console_scripts": ["detector = detector.cli:main"]},
)
